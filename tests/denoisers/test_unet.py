import pytest
import torch

from ulcompress.denoisers import UNet
from ulcompress.functional.padding import replicated
from ulcompress.records import Condition


@torch.no_grad()
def test_a_border_that_is_replicated_is_no_border():
    options = {"channels": 4, "maps": {"spatial": 3}, "text_channels": 8, "widths": (32, 32), "head_channels": 8}
    flat = torch.randn(1, 7, 1, 1).expand(-1, -1, 12, 12)
    spread = {}
    for padding in ("zeros", "replicate"):
        torch.manual_seed(0)
        unet = UNet(**options, padding=padding)
        assert UNet(**unet.arguments()).arguments() == unet.arguments() and unet.arguments()["padding"] == padding
        predicted = unet(flat[:, :4], torch.tensor([999]), Condition(spatial=flat[:, 4:]))
        spread[padding] = float(predicted.flatten(2).std(-1).max())
    assert spread["zeros"] > 1e-2 and spread["replicate"] < 1e-5
    with pytest.raises(ValueError, match="padding must be one of zeros, replicate, got 'reflect'"):
        UNet(**options, padding="reflect")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"trained": "none"}, "trained must be one of all, linear, lora, got 'none'"),
        ({"new_inputs": "ones"}, "new_inputs must be one of random, zero, got 'ones'"),
        ({"maps": {}}, "maps are fields of the condition and their channels, such as spatial: 64; got {}"),
        ({"maps": {"spatial": 0}}, "maps are fields of the condition and their channels"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        UNet(widths=(32, 32), **options)


def test_a_border_is_replicated_alike_when_compiled(monkeypatch):
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    found = []
    for compiling in (False, True):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda compiling=compiling: compiling)
        padded = replicated(x, 2, 1)
        (gradient,) = torch.autograd.grad(padded.square().sum(), x)
        found.append((padded, gradient))
    assert found[0][0].shape == (2, 3, 8, 7)
    torch.testing.assert_close(found[1], found[0])
