"""A small study, and its runs in this process."""

import os
import threading
import time
from pathlib import Path

import pytest
import yaml

from ulcompress.commands.main import run
from ulcompress.training.study import execution
from ulcompress.training.study.execution import Execution
from ulcompress.training.study.measurement import measurements
from ulcompress.training.study.process import Ending

STUDY = """
base: tiny.yaml
budget: { max_steps: 2 }
options: { data.batch_size: 2 }
variants:
  fast: { model.optimizer.learning_rate: 0.01 }
  one step: { setting: steps=1 }
seeds: [0, 1]
evaluate: { metrics: [psnr] }
"""


@pytest.fixture
def study_file(tmp_path):
    """Return a function that writes a study beside a tiny experiment, and returns its path."""
    experiment = yaml.safe_load((Path(__file__).parents[1] / "tiny.yaml").read_text())
    del experiment["trainer"]["logger"]
    experiment["trainer"]["callbacks"] = {"checkpoint": {"init_args": {"every_n_train_steps": 1}}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(experiment))

    def write(text=STUDY, name="trial"):
        (path := tmp_path / f"{name}.yaml").write_text(text)
        return path

    return write


class InThisProcess:
    """A command as `Process` runs it, without the seconds that a new interpreter takes."""

    pid = os.getpid()

    def __init__(self, words, log, *, environment):
        self.words = words

    def wait(self, wanted):
        began = time.monotonic()
        status = run(self.words)
        return Ending(status, time.monotonic() - began, 1 << 20, "its last line")


@pytest.fixture
def in_this_process(monkeypatch):
    monkeypatch.setattr(execution, "Process", InThisProcess)


@pytest.fixture
def carry_out(in_this_process):
    """Return a function that claims a run and does what is left of it."""

    def carry(study, study_run):
        attempt = study_run.attempts.claim()
        return Execution(study_run, measurements(study, study_run), {}, threading.Event()).carry_out(attempt)

    return carry
