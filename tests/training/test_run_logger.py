"""A run that is logged to W&B, through the command line."""

import json
from pathlib import Path

import pytest

from callbacks.transaction_log import config, history, records
from ulcompress.commands.main import run

TINY = str(Path(__file__).parent / "tiny.yaml")
STEP = "trainer/global_step"


@pytest.mark.usefixtures("offline")
def test_a_continued_training_is_one_run_of_wandb(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = ["--trainer.logger.wandb", "WeightsAndBiases", "--trainer.logger.wandb.tags", "[cups]", "--name", "cups"]
    place = ["--trainer.callbacks.checkpoint.dirpath", "runs/cups/checkpoints"]
    start = ["fit", "-c", TINY, "--data.train", images, "--data.validation", images, *named, *place]
    start += ["--trainer.val_check_interval", "2", "--trainer.callbacks.rate", "RateLogger"]
    assert run([*start, "--trainer.max_steps", "4"]) == 0
    # What a process had logged that was killed between steps 4 and 5 is there; the training goes on from step 3.
    assert run([*start, "--trainer.max_steps", "6", "--ckpt_path", "runs/cups/checkpoints/step=3.ckpt"]) == 0

    first, second = sorted(Path("runs/cups/logs/wandb").glob("offline-run-*/*.wandb"))
    recorded = json.loads(Path("runs/cups/run.json").read_text())
    assert first.stem == second.stem == f"run-{recorded['loggers']['WeightsAndBiases']['id']}"
    rows = [row for path in (first, second) for row in history(path)]
    assert [row[STEP] for row in rows if "train/loss" in row] == [0, 1, 2, 3, 4, 5]
    assert [row[STEP] for row in rows if "bpp/file" in row] == [1, 3, 5]

    entries = config(second)
    assert entries["data"]["crop"] == 32 and entries["trainer"]["max_steps"] == 6
    assert entries["model"]["init_args"]["codec"]["encoder"]["class_path"].endswith("HyperEncoder")
    assert entries["run"]["commit"] == recorded["commit"] and entries["run"]["versions"] == recorded["versions"]
    begun = next(record.run for record in records(second) if record.HasField("run"))
    assert (begun.display_name, list(begun.tags)) == ("cups", ["cups"])

    artifact = next(record.artifact for record in records(second) if record.HasField("artifact"))
    card = Path("runs/cups/codec/README.md").read_text()
    assert (artifact.name, artifact.description) == ("cups", card)
    measured = json.loads(artifact.metadata)["measured"]
    assert measured["bpp/file"] == pytest.approx([row["bpp/file"] for row in rows if "bpp/file" in row][-1])
    assert f"| bpp/file | {measured['bpp/file']:.6g} |" in card and "in 6 steps with the seed 0" in card
