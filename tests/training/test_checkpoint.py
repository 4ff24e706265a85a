"""A checkpoint of a stranger leads to nothing that the user has not asked for."""

import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch

from ulcompress.commands.main import run
from ulcompress.pretrained import export
from ulcompress.training import CodecModule
from ulcompress.training.continuation import check_continues

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


def recorded(module):
    """What a checkpoint of a training records."""
    return {"hyper_parameters": dict(module.hparams)}


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
        ("codec.quantizer.class_path", "stranger.Part", "quantizer is VectorQuantizer in the command and Part"),
        ("codec.decoder", "stranger.yaml", "model.codec.decoder is DiffusionDecoder in the command and stranger.yaml"),
        ("codec.quantizer.init_args.codebook_size", 8, "codec.quantizer.codebook_size is 16 in the command and 8"),
        ("codec.conditioning.spatial", None, "conditioning.spatial is SpatialFeatures in the command and None"),
        ("codec", 3, "model.codec is another part in the command and 3 in the checkpoint"),
        ("loss", {"perceptual": DISTANCE}, "model.loss.perceptual is None in the command and FeatureDistance"),
        ("freezing", {"frozen": ["encoder"]}, "model.freezing.frozen is None in the command and ['encoder']"),
    ],
)
def test_other_parts_are_refused_and_not_even_imported(key, value, message, tiny_codec):
    module = CodecModule(codec=tiny_codec)
    checkpoint = recorded(module)
    check_continues(checkpoint, module.arguments(), module.fixed)
    before = set(sys.modules)
    with pytest.raises(ValueError, match="cannot change in a continued training") as error:
        check_continues(change(checkpoint, f"hyper_parameters.{key}", value), module.arguments(), module.fixed)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("_class_path", "stranger.Module"),
        ("optimizer", {"learning_rate": 0.5}),
        ("loss", {"weights": {"perceptual": 2.0}}),
        ("start", {"codec": "somewhere"}),
        ("codec.autoencoder.init_args.pretrained", {"name": "a/b"}),
    ],
)
def test_what_no_weights_depend_on_and_their_sources_may_differ(key, value, tiny_codec):
    module = CodecModule(codec=tiny_codec)
    check_continues(change(recorded(module), f"hyper_parameters.{key}", value), module.arguments(), module.fixed)


def test_an_option_that_the_code_had_not_yet_is_at_its_default(tiny_codec):
    module = CodecModule(codec=tiny_codec)
    checkpoint = recorded(module)
    del checkpoint["hyper_parameters"]["codec"]["quantizer"]["init_args"]["centred"]
    check_continues(checkpoint, module.arguments(), module.fixed)


def test_the_command_line_checks_what_it_continues(fit, squeezenet, tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text("raise SystemExit('a module of a stranger was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    distance = ["--model.loss.perceptual", "FeatureDistance", "--model.loss.perceptual.weights", squeezenet]
    assert fit(1, *distance) is None
    assert fit(2, *distance, "--ckpt_path", "run/last.ckpt") is None
    content = torch.load("run/last.ckpt", weights_only=True)
    content["hyper_parameters"]["codec"]["encoder"]["class_path"] = "stranger.Part"
    torch.save(content, "run/changed.ckpt")
    told = fit(3, *distance, "--ckpt_path", "run/changed.ckpt")
    line = told.splitlines()[-1]
    assert line.startswith("ulcompress: model.codec.encoder is HyperEncoder in the command and Part in")


@pytest.mark.parametrize(
    ("key", "value"),
    [("codec.quantizer.class_path", "stranger.Part"), ("codec.encoder", "stranger.yaml"), ("codec", 3)],
)
def test_export_builds_parts_of_ulcompress_alone(key, value, tiny_codec, tmp_path):
    checkpoint = recorded(CodecModule(codec=tiny_codec))
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
