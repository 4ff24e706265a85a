"""A training that a signal ends keeps what it has learnt, and tells so by its exit status."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ulcompress.commands.main import run
from ulcompress.training import CodecModule

TINY = str(Path(__file__).parent / "tiny.yaml")
HANDLERS = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]


@pytest.fixture
def images(images, tmp_path, monkeypatch):
    """Run in a folder for the results."""
    monkeypatch.chdir(tmp_path)
    return images


@pytest.fixture
def interrupt(monkeypatch):
    """Return a function that lets a step of CodecModule send this process a signal at its n-th call."""

    def at(name, call, number=signal.SIGTERM):
        calls = []
        step = getattr(CodecModule, name)

        def sending(module, batch, batch_idx):
            calls.append(batch_idx)
            if len(calls) == call:
                os.kill(os.getpid(), number)
            return step(module, batch, batch_idx)

        monkeypatch.setattr(CodecModule, name, sending)
        return lambda: monkeypatch.setattr(CodecModule, name, step)

    return at


def fit(images, steps, *more):
    return ["fit", "-c", TINY, "--data.train", images, "--trainer.max_steps", str(steps), *more]


def status(arguments):
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == HANDLERS
    return ended.value.code


def checkpoint(path):
    return torch.load(path, weights_only=True)


def assert_continues(images, *more):
    """Continue from the last checkpoint for three steps, and compare with an uninterrupted training."""
    last = checkpoint("run/last.ckpt")["global_step"]
    assert run(fit(images, last + 3, *more, "--ckpt_path", "last")) == 0
    Path("whole").mkdir()
    with contextlib.chdir("whole"):
        assert run(fit(images, last + 3, *more)) == 0
    first, second = (checkpoint(f"{folder}/step={last + 3}.ckpt") for folder in ("run", "whole/run"))
    for key in ("state_dict", "current_model_state"):
        assert all(torch.equal(value, second[key][name]) for name, value in first[key].items())
    progress = [state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"] for state in (first, second)]
    assert progress[0] == progress[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_processes_that_are_told_to_end(images, number):
    """As a terminal and a cluster do it: the loader's process is told, too."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ulcompress", *fit(images, 100000, "--data.num_workers", "1")],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while not Path("run/step=4.ckpt").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + number, said
    kept = checkpoint("run/last.ckpt")["global_step"]
    assert f"ulcompress: ended by {number.name} after step {kept}, which is kept in" in said and "Traceback" not in said
    assert_continues(images)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_step_is_finished_and_kept(images, interrupt, number, capsys):
    undo = interrupt("training_step", 3, number)
    assert status(fit(images, 9)) == 128 + number
    assert checkpoint("run/last.ckpt")["global_step"] == 3
    assert f"ended by {number.name} after step 3" in capsys.readouterr().err
    undo()
    assert_continues(images)


def test_a_validation_is_left_and_nothing_is_logged_of_it(images, interrupt):
    validated = [
        "--data.validation",
        images,
        "--trainer.val_check_interval",
        "2",
        "--trainer.num_sanity_val_steps",
        "0",
    ]
    undo = interrupt("validation_step", 2)
    assert status(fit(images, 9, *validated)) == 143
    assert checkpoint("run/last.ckpt")["global_step"] == 2
    (log,) = Path("log").glob("*/metrics.csv")
    assert "val/" not in log.read_text()
    undo()
    assert_continues(images, *validated)


def test_gradients_that_wait_for_an_optimiser_step_are_not_lost(images, interrupt):
    more = ["--trainer.accumulate_grad_batches", "3"]
    undo = interrupt("training_step", 4)
    assert status(fit(images, 9, *more)) == 143
    assert checkpoint("run/last.ckpt")["global_step"] == 2
    undo()
    assert_continues(images, *more)


def test_a_link_to_another_checkpoint_is_replaced(images, interrupt):
    interrupt("training_step", 3)
    keeper = "{dirpath: run, save_last: link, every_n_train_steps: 2, filename: '{step}'}"
    callback = "{class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: " + keeper + "}"
    assert status(fit(images, 9, "--trainer.callbacks", f"[{callback}]")) == 143
    assert not Path("run/last.ckpt").is_symlink()
    assert [checkpoint(f"run/{name}.ckpt")["global_step"] for name in ("step=2", "last")] == [2, 3]


def test_a_second_signal_ends_the_process_at_once(images, interrupt, monkeypatch):
    interrupt("training_step", 1)
    handlers = []
    monkeypatch.setattr(
        CodecModule,
        "on_before_zero_grad",
        lambda *_: handlers.append([signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]),
    )
    assert status(fit(images, 9)) == 143
    assert handlers[-1] == [signal.SIG_DFL, signal.SIG_DFL]


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_other_verbs_tell_that_a_signal_has_ended_them(images, interrupt, verb):
    arguments = [verb, "-c", TINY, "--data.validation", images]
    undo = interrupt("validation_step", 1)
    assert status(arguments) == 143
    undo()
    interrupt("validation_step", 1, signal.SIGINT)
    assert run(arguments) == 130


def test_a_signal_before_the_first_step(images, interrupt):
    interrupt("validation_step", 1)
    assert status(fit(images, 9, "--data.validation", images)) == 143
    assert not Path("run/last.ckpt").exists()


def test_a_warning_of_slurm_requeues_the_job_which_goes_on(images, interrupt, tmp_path, monkeypatch):
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    (programs / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    for name, value in {"NTASKS": "1", "JOB_NAME": "training", "JOB_ID": "7", "PROCID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    undo = interrupt("training_step", 3, signal.SIGUSR1)
    assert status(fit(images, 5)) == 128 + signal.SIGUSR1
    assert Path("asked").read_text() == "requeue 7\n"
    assert checkpoint("runs/tiny/hpc_ckpt_1.ckpt")["global_step"] == 3
    undo()
    assert run(fit(images, 5)) == 0, "SLURM starts the same command again"
    assert checkpoint("run/last.ckpt")["global_step"] == 5
    Path("whole").mkdir()
    with contextlib.chdir("whole"):
        for name in ("NTASKS", "JOB_NAME"):
            monkeypatch.delenv(f"SLURM_{name}")
        assert run(fit(images, 5)) == 0
    first, second = (checkpoint(f"{folder}/step=5.ckpt")["state_dict"] for folder in ("run", "whole/run"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
