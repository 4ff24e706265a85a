"""Every kind of noise schedule."""

import pytest
import torch

from ulcompress.diffusion import NoiseSchedule

KINDS = {
    "v": {},
    "v_cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "v_nonzero": {"zero_terminal_snr": False},
    "epsilon": {"prediction": "epsilon", "zero_terminal_snr": False},
    "sample": {"prediction": "sample"},
}


@pytest.fixture(params=KINDS)
def schedule(request):
    torch.manual_seed(0)
    return NoiseSchedule(**KINDS[request.param])
