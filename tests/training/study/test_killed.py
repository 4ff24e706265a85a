"""A study that is killed goes on as if nothing had happened."""

import signal
import subprocess
import sys
import time

import torch

from ulcompress.training.study.plan import plan
from ulcompress.training.study.study import read_study

STUDY = "base: tiny.yaml\nbudget: { max_steps: 25 }\n"


def until(condition, seconds=200):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_study_continues_to_the_bit(study_file, images, tmp_path, monkeypatch, carry_out):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    study, data = read_study(path := study_file(STUDY)), ["--data.train", images]
    (run,) = plan(study, data=data)
    command = [sys.executable, "-m", "ulcompress", "ablate", str(path), *data]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
        until(lambda: run.run.last_checkpoint.exists() or process.poll() is not None)
        process.send_signal(signal.SIGKILL)
        process.wait()
    until(lambda: not run.attempts.alive(run.attempts.all()[-1]))  # the training has noticed, and ends as well
    steps = torch.load(run.run.last_checkpoint, weights_only=True)["global_step"]
    assert 0 < steps < 25 and run.run.record["state"] == "interrupted" and not run.trained

    assert carry_out(study, run).state == "done"
    assert [attempt.state for attempt in run.attempts.all()] == ["running", "done"]
    (whole,) = plan(study, data=data, root=tmp_path / "whole")
    assert carry_out(study, whole).state == "done"
    continued, uninterrupted = (
        torch.load(one.run.last_checkpoint, weights_only=True)["state_dict"] for one in (run, whole)
    )
    assert all(value.equal(uninterrupted[name]) for name, value in continued.items())
