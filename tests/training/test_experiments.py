"""Every experiment file is built by the command line and trained for one step."""

from pathlib import Path

import pytest
import torch

from ulcompress.cli import run

ROOT = Path(__file__).parents[2] / "experiments"
EXPERIMENTS = sorted(ROOT.rglob("*.yaml"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_one_step(path, images, squeezenet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["fit", "-c", str(path), "--data.train", images, "--data.batch_size", "2", "--data.crop", "32"]
    arguments += ["--data.num_workers", "0", "--trainer.max_steps", "1", "--trainer.enable_progress_bar", "false"]
    if "perceptual: FeatureDistance" in path.read_text():
        arguments += ["--model.perceptual.weights", squeezenet]
    assert run(arguments) == 0
    checkpoints = list(tmp_path.rglob("last.ckpt"))
    assert not checkpoints or torch.load(checkpoints[0], weights_only=True)["global_step"] == 1


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_head_says_method_cost_and_command(path):
    head = path.read_text().split("\nmodel:")[0]
    for word in ("Method:", "Result:", "Cost:", "Command:"):
        assert word in head
