"""Whose files a codec reads that was trained from another one."""

from pathlib import Path

import pytest
import torch
import yaml

import ulcompress
from ulcompress.commands.main import run
from ulcompress.images import read_image
from ulcompress.pretrained import export, metadata, save

FROZEN = ["quantizer", "conditioning"]
TRAINER = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "enable_model_summary": False}


@pytest.fixture
def trained(tiny_codec, images, tmp_path, monkeypatch):
    """Return a function that trains from a codec that states a name, with a change, and returns the fingerprint."""
    monkeypatch.chdir(tmp_path)
    save(tiny_codec.named("c0ffee"), "start")

    def train(change=None, start=None, frozen=FROZEN, *options):
        arguments = {"codec": tiny_codec.arguments(), "start": {"codec": "start", **(start or {})}}
        arguments["codec"]["quantizer"]["init_args"].update(change or {})
        model = {"class_path": "CodecModule", "init_args": {**arguments, "freezing": {"frozen": frozen}}}
        experiment = {"model": model, "data": {"crop": 32, "batch_size": 2}, "trainer": TRAINER}
        Path("next.yaml").write_text(yaml.safe_dump(experiment))
        options = ["--data.train", images, "--trainer.max_steps", "2", *options]
        assert run(["fit", "-c", "next.yaml", *options]) == 0
        return metadata(Path("runs/next/codec"))["fingerprint"]

    return train


def test_files_stay_readable_where_quantiser_and_side_information_stay(trained, images):
    assert trained(change={"decay": 0.5}) == "c0ffee"
    before, after = ulcompress.load("start"), ulcompress.load("runs/next/codec")
    image = read_image(next(Path(images).glob("*.png")))
    data = before.compress(image, "a red cup")
    assert not torch.equal(after.decompress(data), before.decompress(data))
    assert after.stream_bits(data) == before.stream_bits(data)


@pytest.mark.parametrize(
    "options",
    [
        {"frozen": ["conditioning"]},
        {"frozen": ["quantizer"]},
        {"change": {"centred": True}, "start": {"parts": ["encoder", "decoder", "conditioning.text"]}},
        {"start": {"parts": ["encoder", "decoder", "conditioning.text"]}},
        {"start": {"without": ["quantizer"]}},
    ],
)
def test_a_codec_that_reads_files_otherwise_has_another_fingerprint(trained, options):
    assert trained(**options) != "c0ffee"


def test_a_continued_training_keeps_whose_files_it_reads(trained):
    assert trained() == "c0ffee"
    Path("start").rename("elsewhere")
    (last,) = Path("runs/next/checkpoints").glob("last*.ckpt")
    assert trained(None, None, FROZEN, "--trainer.max_steps", "3", "--ckpt_path", str(last)) == "c0ffee"
    export(last, "exported")
    assert metadata(Path("exported"))["fingerprint"] == "c0ffee"


def test_a_start_that_gives_weights_alone_may_be_a_codec_that_cannot_be_built(trained):
    path = Path("start/config.yaml")
    path.write_text(path.read_text().replace("ulcompress.decoders.DiffusionDecoder", "elsewhere.Decoder"))
    path.write_text(path.read_text().replace("ulcompress.encoders.HyperEncoder", "elsewhere.Encoder"))
    assert trained() != "c0ffee"
