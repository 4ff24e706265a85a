"""A run has a name and a place, and is not overwritten by another."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from ulcompress import load
from ulcompress.commands.main import run
from ulcompress.training.run import Run

TINY = Path(__file__).parent / "tiny.yaml"


@pytest.fixture
def fit(images, tmp_path, monkeypatch):
    """Return a function that trains for a step with the callbacks and loggers of every run, in a folder of its own."""
    experiment = yaml.safe_load(TINY.read_text())
    for key in ("callbacks", "logger"):
        del experiment["trainer"][key]
    Path(tmp_path, "experiments", "small").mkdir(parents=True)
    Path(tmp_path, "experiments", "small", "tiny.yaml").write_text(yaml.safe_dump(experiment))
    monkeypatch.chdir(tmp_path)
    words = ["fit", "-c", "experiments/small/tiny.yaml", "--data.train", images, "--data.validation", images]
    return lambda *more, steps=1: run([*words, "--trainer.max_steps", str(steps), *more])


def said(capsys):
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ulcompress:")]
    return line


def test_everything_of_a_run_lies_in_its_folder(fit, images, tmp_path):
    before = {path.name for path in tmp_path.iterdir()}
    assert fit("--trainer.val_check_interval", "3", steps=3) == 0
    assert {path.name for path in tmp_path.iterdir()} == before | {"runs"}
    place = Run("small/tiny")
    assert torch.load(place.last_checkpoint, weights_only=True)["global_step"] == 3, "the last step is kept"
    assert [path.name for path in place.checkpoints.iterdir()] == ["last.ckpt"]
    load(str(place.codec))
    record = place.record
    assert (record["name"], record["state"], record["step"], record["seed"]) == ("small/tiny", "done", 3, 0)
    assert record["command"][:2] == ["fit", "-c"] and record["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert record["commit"] is None or len(record["commit"]) == 40
    assert place.configuration["data"]["train"] == images
    (table,) = place.logs.rglob("metrics.csv")
    names = set(table.read_text().splitlines()[0].split(","))
    assert names >= {"train/gradient-norm", "train/images-per-second", "memory/process", "lr-AdamW", "bpp/file"}


def test_the_recorded_configuration_builds_the_run_again(fit):
    assert fit("--name", "first", "--model.optimizer.learning_rate", "0.25") == 0
    Path("again.yaml").write_text(Path("runs/first/config.yaml").read_text())
    assert run(["fit", "-c", "again.yaml", "--name", "second"]) == 0
    first, second = (torch.load(Run(name).last_checkpoint, weights_only=True) for name in ("first", "second"))
    assert all(torch.equal(value, second["state_dict"][name]) for name, value in first["state_dict"].items())


def test_a_run_is_not_overwritten(fit, capsys):
    place = Run("mine", Path("elsewhere"))
    words = ("--name", "mine", "--root", "elsewhere")
    assert fit(*words) == 0
    kept = place.last_checkpoint.read_bytes()
    capsys.readouterr()
    assert fit(*words) == 1
    assert "elsewhere/mine holds this run already, with a checkpoint; go on with it by --ckpt_path last" in said(capsys)
    assert fit(*words, "--model.optimizer.learning_rate", "0.5") == 1
    line = said(capsys)
    assert "elsewhere/mine holds a run of another configuration" in line and "another --name" in line
    assert "model.optimizer.learning_rate is 0.5 and was 0.001;" in line
    assert place.last_checkpoint.read_bytes() == kept
    assert fit(*words, "--model.optimizer.learning_rate", "0.5", "--overwrite") == 0
    assert place.configuration["model"]["init_args"]["optimizer"]["learning_rate"] == 0.5
    assert fit(*words, "--ckpt_path", "last", steps=2) == 0, "it continues with another number of steps"
    assert place.record["step"] == 2


def test_a_training_that_has_ended_goes_on_as_a_longer_one(fit):
    """It ends in the middle of an epoch, of which the rest comes next."""
    assert fit("--name", "long", steps=4) == 0
    assert fit("--name", "short", steps=2) == fit("--name", "short", "--ckpt_path", "last", steps=4) == 0
    one, other = (torch.load(Run(name).last_checkpoint, weights_only=True) for name in ("long", "short"))
    assert one["epoch"] == other["epoch"] == 0
    assert all(torch.equal(value, other["state_dict"][name]) for name, value in one["state_dict"].items())


@pytest.mark.parametrize(
    "wrong",
    [
        ("--model.loss.weights", "{difusion: 0}"),
        ("--model.start.codec", "no-such-codec"),
        ("--model.start.autoencoder", "none.ckpt"),
        ("--trainer.max_step", "3"),
    ],
)
def test_what_is_wrong_is_found_before_anything_begins(wrong, fit):
    assert fit(*wrong) == 1
    assert not Path("runs").exists()


def test_a_failed_run_says_why(fit):
    assert fit("--data.batch_size", "1000") == 1
    record = Run("small/tiny").record
    assert record["state"] == "failed" and "less than one batch of 1000" in record["error"]


@pytest.mark.parametrize(
    ("word", "choices"),
    [
        ("--trainer.callbacks.mine", ("GradientNorm", "ModelCheckpoint", "RateLogger")),
        ("--trainer.logger.mine", ("CSVLogger", "WandbLogger")),
        ("--model.codec.quantizer.entropy", ("ContextModel", "StaticEntropy", "UniformEntropy")),
        ("--model.codec.conditioning.mine", ("NeuralSyntax", "TextPrompt")),
        ("--model.loss.perceptual", ("FeatureDistance", "LPIPS")),
        ("--model", ("AutoencoderModule or CodecModule",)),
    ],
)
def test_unknown_names_list_what_there_is(word, choices, fit, capsys):
    assert fit(word, "Nonsense") == 1
    line = said(capsys)
    assert "'Nonsense' is no part that fits here; choose " in line and all(choice in line for choice in choices)


@pytest.mark.parametrize("name", ["../a", "/a", "", "a/../../b"])
def test_a_name_leads_nowhere_else(name):
    with pytest.raises(ValueError, match="give a relative path without"):
        Run(name)


def test_entries_of_the_record_change_one_by_one(tmp_path):
    place = Run("a/b", tmp_path)
    assert place.record == {} == place.configuration
    place.begin({"seed_everything": 3, "trainer": {"max_steps": 1}, "ckpt_path": "x"}, command=["fit"])
    place.update(wandb_id="abc")
    record = json.loads((tmp_path / "a/b/run.json").read_text())
    assert (record["state"], record["seed"], record["wandb_id"]) == ("running", 3, "abc")
    assert place.differences({"seed_everything": 3, "trainer": {"max_steps": 1}, "ckpt_path": None}) == {}
    changed = place.differences({"trainer": {"max_steps": 2}})
    assert changed == {"trainer.max_steps": (1, 2), "seed_everything": (3, None)}


@pytest.mark.parametrize(
    ("error", "state"),
    [(SystemExit(143), "interrupted"), (KeyboardInterrupt(), "interrupted"), (OSError("full"), "failed")],
)
def test_the_state_follows_how_a_run_ends(error, state, tmp_path):
    place = Run("a", tmp_path)
    place.begin({}, command=[])
    with pytest.raises(type(error)), place.state_recorded():
        raise error
    assert place.record["state"] == state and place.record["ended"]
