"""The package compressai does not exist for every Python."""

import sys

import pytest
import torch

from ulcompress import load
from ulcompress.evaluation.anchors.zoo import ZooAnchor
from ulcompress.learned.compressai import HYPERPRIORS, CompressAIModel
from ulcompress.quantizers import HyperpriorQuantizer, StringQuantizer


@pytest.fixture(autouse=True)
def without_compressai(monkeypatch, one_thread):
    monkeypatch.setitem(sys.modules, "compressai", None)


def test_the_bundled_codec_of_cgdm_codes_an_image():
    codec = load("mini-cgdm")
    image = torch.rand(3, 40, 64, generator=torch.Generator().manual_seed(0))
    assert codec.decompress(codec.compress(image), steps=1).shape == image.shape


@pytest.mark.parametrize("name", HYPERPRIORS)
def test_a_hyperprior_learns(name):
    torch.manual_seed(0)
    quantizer = HyperpriorQuantizer(model=CompressAIModel(name=name, sizes=(8, 6))).train()
    quantized = quantizer(torch.randn(2, 6, 4, 8))
    (quantized.bits.sum() + quantized.losses["quantiles"]).backward()
    assert all(parameter.grad is not None for parameter in quantizer.parameters())


@pytest.mark.parametrize(
    "use",
    [
        lambda: CompressAIModel(name="mbt2018", sizes=(8, 6)).analysis(),
        lambda: CompressAIModel(quality=1),
        StringQuantizer,
        ZooAnchor(name="mbt2018-mean").check,
    ],
)
def test_what_needs_the_package_says_so_in_one_line(use):
    with pytest.raises(ValueError, match=r"needs the package compressai, .* pip install 'ulcompress\[zoo\]'$"):
        use()
