"""A sweep's trial is a command of ours: what W&B's agent starts is taken from its own code, and parsed by ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import wandb.wandb_agent
import yaml

from ulcompress.commands.main import run

ROOT = Path(__file__).parents[2]
SWEEPS = sorted((ROOT / "experiments/sweeps").glob("*.yaml"))
PRINTING = f"#!{sys.executable} -S\nimport sys\nprint(chr(0).join(sys.argv[1:]), end='')\n"
TRIAL = {"model.optimizer.learning_rate": {"value": 0.0005}, "model.optimizer.warmup_steps": {"value": 50}}


def started(sweep, trial, monkeypatch):
    """Return command and environment of the process that the agent starts for a trial."""
    processes = []

    class Process:
        def __init__(self, **options):
            processes.append(options)

    monkeypatch.setattr(wandb.wandb_agent, "AgentProcess", Process)
    agent = wandb.wandb_agent.Agent(api=None, queue=None)
    agent._sweep_command = list(sweep["command"])
    agent._command_run({"run_id": "k3y", "program": sweep.get("program"), "args": trial})
    (process,) = processes
    return process["command"], process["env"]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_agents_command_is_a_run_of_its_own(path, tmp_path, monkeypatch, capsys):
    for name in ("WANDB_DIR", "WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(name, "cups")  # so that what the agent sets is undone
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.chdir(ROOT)
    sweep = yaml.safe_load(path.read_text())
    assert set(sweep["parameters"]) == set(TRIAL) and sweep["metric"]["name"] == "val/loss"
    command, environment = started(sweep, TRIAL, monkeypatch)

    (tmp_path / "ulcompress").write_text(PRINTING)
    (tmp_path / "ulcompress").chmod(0o755)
    environment |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TRAIN": "my photos", "VALIDATION": "others"}
    environment |= {"SQUEEZENET": "net.safetensors"}
    words = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split("\0")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run([*words, "--print_config"])
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["name"] == "sweeps/k3y"
    optimizer = config["model"]["init_args"]["optimizer"]
    assert (optimizer["learning_rate"], optimizer["warmup_steps"], optimizer["decay_steps"]) == (0.0005, 50, 2000)
    assert config["data"]["train"] == "my photos"
    assert config["trainer"]["logger"]["wandb"]["class_path"].endswith("WeightsAndBiases")
    assert config["ckpt_path"] == "last"
