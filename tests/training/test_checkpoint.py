"""A checkpoint of a stranger leads to nothing that the user has not asked for."""

import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch

from ulcompress.commands.main import run
from ulcompress.encoders import HyperEncoder
from ulcompress.losses import FeatureDistance
from ulcompress.pretrained import export
from ulcompress.training import CodecLoss, CodecModule
from ulcompress.training.checkpoint import check_hyperparameters

TINY = str(Path(__file__).parent / "tiny.yaml")
DISTANCE = {"class_path": "ulcompress.losses.FeatureDistance", "init_args": {}}


@pytest.fixture
def fit(images, tmp_path, monkeypatch, capsys):
    """Return a function that runs `fit` and returns what it says, None where it ends well."""
    monkeypatch.chdir(tmp_path)

    def fit(steps, *more):
        data = ["--data.train", images, "--data.validation", images]
        status = run(["fit", "-c", TINY, *data, "--trainer.max_steps", str(steps), *more])
        return None if status == 0 else capsys.readouterr().err

    return fit


class Mine(HyperEncoder):
    """A part that is not declared."""

    def __init__(self, *, mode: str):
        super().__init__(stride=16, width=8, channels=8)


def recorded(module):
    """What a checkpoint of a training records, and the configuration that it was started with."""
    asked = {"class_path": module.path(), "init_args": module.arguments()}
    return {"hyper_parameters": dict(module.hparams)}, asked


def change(values, key, value):
    values = deepcopy(values)
    *path, last = key.split(".")
    owner = values
    for name in path:
        owner = owner[name]
    owner[last] = value
    return values


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("_class_path", "stranger.Module", "'stranger.Module' is not of ulcompress"),
        ("_class_path", "os.system", "'os.system' is not of ulcompress"),
        ("_class_path", "lightning.pytorch.LightningModule", "is not of ulcompress"),
        ("_class_path", None, "model: a part is `class_path` and `init_args`"),
        ("codec.quantizer.class_path", "stranger.Part", "model.codec.quantizer: 'stranger.Part' is not of ulcompress"),
        ("codec.decoder", "stranger.yaml", "model.codec.decoder: a part is"),
        ("optimizer", {"class_path": "stranger.Part"}, "Option 'class_path' is not accepted"),
        ("loss", {"perceptual": DISTANCE}, "FeatureDistance is not declared"),
        ("codec.autoencoder.init_args.pretrained", {"name": "a/b"}, "leads to code, files or models elsewhere"),
        ("loss", {"weights": {"perceptual": "${oc.env:HOME}"}}, "model.loss.weights.perceptual: expected float"),
    ],
)
def test_what_was_not_asked_for_is_not_even_imported(key, value, message, tiny_codec):
    checkpoint, asked = recorded(CodecModule(codec=tiny_codec))
    check_hyperparameters(checkpoint, asked)
    before = set(sys.modules)
    with pytest.raises(ValueError, match="the checkpoint is not continued") as error:
        check_hyperparameters(change(checkpoint, f"hyper_parameters.{key}", value), asked)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert set(sys.modules) == before


def test_sources_must_be_those_that_were_asked_for(tiny_codec, squeezenet):
    checkpoint, asked = recorded(
        CodecModule(codec=tiny_codec, loss=CodecLoss(perceptual=FeatureDistance(weights=squeezenet)))
    )
    check_hyperparameters(checkpoint, asked)
    with pytest.raises(ValueError, match=r"model\.loss\.perceptual\.weights is .*give the same option if you want it"):
        check_hyperparameters(
            checkpoint, change(asked, "init_args.loss.perceptual.init_args.weights", "other.safetensors")
        )


def test_a_part_of_the_user_is_continued_where_it_is_named(tiny_codec):
    tiny_codec._arguments["encoder"] = Mine(mode="a")
    checkpoint, asked = recorded(CodecModule(codec=tiny_codec))
    check_hyperparameters(checkpoint, asked)
    with pytest.raises(ValueError, match=r"model\.codec\.encoder\.mode is 'a', which may lead to code"):
        check_hyperparameters(checkpoint, change(asked, "init_args.codec.encoder.init_args.mode", "b"))
    with pytest.raises(ValueError, match=r"Mine' is not of ulcompress"):
        check_hyperparameters(checkpoint, recorded(CodecModule(codec=deepcopy(tiny_codec)))[1] | {"init_args": {}})


def test_the_command_line_checks_what_it_continues(fit, squeezenet, tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text("raise SystemExit('a module of a stranger was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    distance = ["--model.loss.perceptual", "FeatureDistance", "--model.loss.perceptual.weights", squeezenet]
    assert fit(1, *distance) is None
    assert fit(2, *distance, "--ckpt_path", "run/last.ckpt") is None
    content = torch.load("run/last.ckpt", weights_only=True)
    content["hyper_parameters"]["codec"]["encoder"]["class_path"] = "stranger.Part"
    torch.save(content, "changed.ckpt")
    told = fit(3, *distance, "--ckpt_path", "changed.ckpt")
    assert "model.codec.encoder: 'stranger.Part' is not of ulcompress" in told
    assert told.splitlines()[-1].startswith("ulcompress: the checkpoint is not continued")


@pytest.mark.parametrize(
    ("key", "value"),
    [("codec.quantizer.class_path", "stranger.Part"), ("codec.encoder", "stranger.yaml"), ("codec", 3)],
)
def test_export_builds_parts_of_ulcompress_alone(key, value, tiny_codec, tmp_path):
    checkpoint, _ = recorded(CodecModule(codec=tiny_codec))
    state = {f"codec.{name}": tensor for name, tensor in tiny_codec.state_dict().items()}
    torch.save(change(checkpoint, f"hyper_parameters.{key}", value) | {"state_dict": state}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"a\.ckpt' holds a codec that cannot be built: "):
        export(tmp_path / "a.ckpt", tmp_path / "codec")
    assert not (tmp_path / "codec").exists()


def test_what_is_downloaded_is_not_unpickled(images, tmp_path, monkeypatch):
    from ulcompress.training.cli import CodecCLI

    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(CodecCLI, "_run_subcommand", lambda self, verb: seen.append(self.config[verb].weights_only))
    assert run(["fit", "-c", TINY, "--data.train", images, "--ckpt_path", "https://localhost:9/a.ckpt"]) == 0
    assert seen == [True]
