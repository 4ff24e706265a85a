import inspect

import pytest
import torch

from ulcompress import denoisers
from ulcompress.denoisers import ConsistencyEncoder, Denoiser, GuidedUNet, UNet
from ulcompress.testing import check_denoiser

SIZES = {"widths": (8, 12), "patch_size": 2}
GUIDED = {"channels": 4, "blocks": 1, "syntax_channels": 5, "text_channels": 8}
DENOISERS = {
    "UNet": lambda: UNet(
        maps={"estimate": 4, "edges": 1}, text_channels=8, syntax_channels=5, widths=(32, 32), head_channels=8
    ),
    "GuidedUNet": lambda: GuidedUNet(
        maps={"estimate": 4, "edges": 1}, consistency=ConsistencyEncoder(channels=5, **SIZES), **SIZES, **GUIDED
    ),
    "GuidedUNet with gains": lambda: GuidedUNet(
        maps={"estimate": 4}, fusion="gain", consistency=ConsistencyEncoder(channels=4, **SIZES), **SIZES, **GUIDED
    ),
    "GuidedUNet without its branch": lambda: GuidedUNet(maps={"spatial": 3}, **SIZES, **GUIDED),
}


@pytest.fixture(params=DENOISERS)
def denoiser(request, one_thread):
    torch.manual_seed(0)
    return DENOISERS[request.param]()


def test_every_class_is_here():
    exported = (getattr(denoisers, name) for name in denoisers.__all__)
    classes = {c for c in exported if inspect.isclass(c) and issubclass(c, Denoiser)}
    assert {c for c in classes if not inspect.isabstract(c)} == {UNet, GuidedUNet}


def test_it_keeps_the_contract(denoiser):
    check_denoiser(denoiser)
