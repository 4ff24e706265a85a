"""PerCo's eight rates: what the files of experiments/perco/rates say, and what real files cost."""

import math
import re
from pathlib import Path

import pytest
import torch

from ulcompress import Codec
from ulcompress.autoencoders import KLAutoencoder
from ulcompress.coding import bitstream
from ulcompress.commands.main import run
from ulcompress.conditioning import SpatialFeatures
from ulcompress.decoders import DiffusionDecoder
from ulcompress.denoisers import UNet
from ulcompress.encoders import HyperEncoder
from ulcompress.entropy import UniformEntropy
from ulcompress.quantizers import VectorQuantizer

RATES = Path(__file__).parents[2] / "experiments/perco/rates"
RECIPE = RATES.parent / "sd.yaml"
POINTS = {
    "0.1250": (8, 256, 32_768),
    "0.0937": (8, 64, 24_576),
    "0.0507": (16, 8192, 13_312),
    "0.0313": (16, 256, 8192),
    "0.0098": (32, 1024, 2560),
    "0.0058": (32, 64, 1536),
    "0.0024": (64, 1024, 640),
    "0.0019": (64, 256, 512),
}
"""Stride, entries and bits of a 512x512 image, without text."""


def test_every_point_has_a_file_of_few_lines():
    assert {path.stem for path in RATES.glob("*.yaml")} == set(POINTS)
    assert all(len(path.read_text().splitlines()) <= 4 for path in RATES.glob("*.yaml"))


@pytest.mark.parametrize("rate", POINTS)
def test_info_tells_the_nominal_bits(rate, capsys):
    stride, entries, bits = POINTS[rate]
    assert run(["info", str(RECIPE), str(RATES / f"{rate}.yaml")]) == 0
    printed = capsys.readouterr().out
    assert f"one of {entries} symbols" in printed and f"every {stride} x {stride} pixels" in printed
    assert f"512 x 512: {bits} bits, {bits // 8} bytes" in printed
    shown = re.search(r"([\d.]+) bpp", printed)
    assert shown and abs(float(shown[1]) - float(rate)) < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("rate", POINTS)
@pytest.mark.parametrize("width, height", [(512, 512), (100, 70)])
def test_a_real_file_costs_the_nominal_bits(rate, width, height, one_thread):
    """At most one byte of termination is added, besides the check of 2 bytes and a header of at most 8."""
    stride, entries, bits = POINTS[rate]
    torch.manual_seed(0)
    codec = Codec(
        autoencoder=KLAutoencoder(widths=(8, 8)),
        encoder=HyperEncoder(stride=stride, width=8, channels=8),
        quantizer=VectorQuantizer(codebook_size=entries, channels=8, dimension=4, entropy=UniformEntropy()),
        conditioning={"spatial": SpatialFeatures()},
        decoder=DiffusionDecoder(denoiser=UNet(maps={"spatial": 8}, text_channels=8, widths=(32, 32))),
    ).eval()
    (nominal,) = codec.quantizer.fixed_length_bits(-(-height // stride), -(-width // stride))
    assert nominal == bits or (width, height) != (512, 512)
    data = codec.compress(torch.rand(3, height, width))
    payload = bitstream.payload_of(data)
    assert len(data) - len(payload) <= 10
    assert 0 <= 8 * len(payload) - nominal <= 8 + 7
    again = codec.compress(torch.rand(3, height, width))
    assert abs(len(again) - len(data)) <= 1, "fixed length: the image does not matter"


@pytest.mark.parametrize(
    "content, message",
    [
        ("trainer: {max_steps: 1}", "describes no codec"),
        ("[1, 2]", "is no experiment"),
        ("model: {class_path: CodecModule, init_args: {nothing: 1}}", "nothing"),
        ("model: [", "cannot read"),
    ],
)
def test_what_is_no_experiment_is_refused_in_one_line(tmp_path, capsys, content, message):
    (tmp_path / "wrong.yaml").write_text(content)
    assert run(["info", str(tmp_path / "wrong.yaml")]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_info_tells_what_a_syntax_can_cost(capsys):
    assert run(["info", str(RATES.parents[1] / "cgdm" / "mini.yaml")]) == 0
    shown = capsys.readouterr().out
    assert "no nominal rate" in shown
    assert "64 integers of 15 values, coded by learnt frequencies: 250 bits" in shown


def test_info_tells_every_rate_of_a_codec_with_several(capsys):
    assert run(["info", str(RATES.parents[1] / "mini" / "cosines.yaml")]) == 0
    shown = capsys.readouterr().out
    third = math.log2(3) + 24 * 16 * 10 + 48 * 32 * (7 + 10)
    assert f"rate 3, 768 x 512: {third:g} bits" in shown and "rate 1, 768 x 512: 3841.58 bits" in shown


def test_info_asks_every_conditioner_what_it_costs(capsys, monkeypatch):
    asked = []
    cost = classmethod(lambda cls, arguments: asked.append(arguments) or "a map of two colours")
    monkeypatch.setattr(SpatialFeatures, "nominal_cost", cost)
    assert run(["info", str(RECIPE)]) == 0
    shown = capsys.readouterr().out
    assert "  spatial  a map of two colours" in shown and asked == [{}]
    assert "  text     a caption of up to 32 tokens, coded by learnt frequencies" in shown
