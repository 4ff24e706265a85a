"""Every kind of noise schedule."""

import pytest
import torch

from ulcompress.diffusion import ContinuousSchedule, DiscreteSchedule

SCHEDULES = {
    "stable_diffusion": lambda: DiscreteSchedule(),
    "cosine": lambda: DiscreteSchedule(beta_schedule="squaredcos_cap_v2"),
    "signal_left": lambda: DiscreteSchedule(zero_terminal_snr=False),
    "straight": lambda: ContinuousSchedule(),
    "variance_preserving": lambda: ContinuousSchedule(path="variance_preserving"),
}


@pytest.fixture(params=SCHEDULES)
def schedule(request):
    torch.manual_seed(0)
    return SCHEDULES[request.param]()


@pytest.fixture
def levels_of():
    """Return a function that returns four noise levels of a schedule, from nearly clean to the highest, (4,)."""

    def make(schedule):
        shares = (0.001, 0.3, 0.7, 1.0)
        levels = [schedule.highest(share) for share in shares]
        return torch.tensor(levels, dtype=schedule.at(levels[0], torch.zeros(1)).dtype)

    return make
