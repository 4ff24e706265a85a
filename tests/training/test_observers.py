"""Callbacks and loggers are named entries, which files and the command line change one by one."""

import pytest
import yaml

from ulcompress.training.experiment import resolved, run_of
from ulcompress.training.observers import default_callbacks, merged, named
from ulcompress.training.run import Run

RUN = Run("name")
DEFAULTS = default_callbacks(RUN)


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda name, text: (tmp_path / name).write_text(text)


def trainer(arguments):
    """Return the last file's section for the trainer."""
    return yaml.safe_load([word for word in resolved(arguments, RUN) if "\n" in word][-1])["trainer"]


def test_later_files_change_remove_and_add_single_entries(write):
    write("a.yaml", "trainer: {callbacks: {checkpoint: {init_args: {every_n_train_steps: 7}}, mine: MovingAverage}}")
    write("b.yaml", "trainer: {callbacks: {rate: null, mine: {init_args: {decay: 0.5}}, other: RateLogger}}")
    callbacks = trainer(["fit", "-c", "a.yaml", "--config=b.yaml"])["callbacks"]
    assert callbacks["checkpoint"]["init_args"]["every_n_train_steps"] == 7
    assert callbacks["checkpoint"]["init_args"]["dirpath"] == "runs/name/checkpoints"
    assert callbacks["rate"] is None and callbacks["other"] == "RateLogger"
    assert {"memory", "throughput", "learning_rate", "gradient_norm", "interruption"} < callbacks.keys()


def test_another_class_does_not_inherit_arguments():
    entries = merged({"a": {"class_path": "x.A", "init_args": {"one": 1}}}, {"a": {"class_path": "x.B"}})
    assert entries == {"a": {"class_path": "x.B"}}


def test_a_list_stands_for_its_parts_alone():
    keeper = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"dirpath": "there"}}
    entries = named([keeper, "MovingAverage", "RateLogger", "RateLogger"], DEFAULTS)
    assert entries is not None and entries["checkpoint"] == keeper
    assert entries["moving_average"] == "MovingAverage" and entries["rate"] == "RateLogger"
    assert list(entries.values()).count("RateLogger") == 2
    assert entries["memory"] is entries["reconstructions"] is None and "interruption" not in entries


def test_a_logger_writes_where_the_run_is():
    words = resolved(["fit", "--trainer.logger.wandb", "WandbLogger", "--trainer.logger=TensorBoardLogger"], RUN)
    one = yaml.safe_load(words[2])
    assert one == {"class_path": "WandbLogger", "init_args": {"save_dir": "runs/name/logs"}}
    alone = yaml.safe_load(words[4])
    assert alone["csv"] is None and alone["tensor_board"]["init_args"]["save_dir"] == "runs/name/logs"


def test_an_experiment_is_laid_over_its_base(write, tmp_path):
    (tmp_path / "deep").mkdir()
    write("base.yaml", "data: {crop: 64}")
    write("deep/a.yaml", "base: ../base.yaml\ndata: {batch_size: 3}")
    words = resolved(["fit", "-c", "deep/a.yaml"], RUN)
    assert [yaml.safe_load(word) for word in words[2::2]] == [{"data": {"crop": 64}}, {"data": {"batch_size": 3}}]


@pytest.mark.parametrize(
    ("text", "message"), [("base: a.yaml", "is its own `base`"), ("base: b.yaml", "which is no file")]
)
def test_a_base_that_cannot_be_is_one_clear_line(write, text, message):
    write("a.yaml", text)
    with pytest.raises(ValueError, match=message):
        resolved(["fit", "-c", "a.yaml"], RUN)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["-c", "experiments/mini/cosines.yaml"], "mini/cosines"),
        (["-c", "experiments/perco/sd.yaml", "-c", "experiments/perco/rates/0.0019.yaml"], "perco/sd+0.0019"),
        (["--config=/somewhere/own.yaml"], "own"),
        (["-c", "own.yaml", "--name", "a/b"], "a/b"),
        (["-c", "said.yaml"], "said/by/file"),
        ([], "run"),
    ],
)
def test_the_name_is_that_of_the_experiment_unless_one_is_given(arguments, name, write):
    write("said.yaml", "name: said/by/file\nroot: elsewhere")
    run = run_of(["fit", *arguments, "--data.train", "x"])
    assert run.name == name
    assert str(run.root) == ("elsewhere" if "said.yaml" in arguments else "runs")
