import os
import subprocess
import sys
import time

import pytest

from ulcompress.training.study.attempts import DONE, FAILED, Attempts


@pytest.fixture
def attempts(tmp_path):
    return Attempts(tmp_path / "attempts")


def ended_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_run_is_claimed_once(attempts):
    first = attempts.claim()
    assert first.number == 1 and first.pids == (os.getpid(),)
    assert attempts.claim() is None
    attempts.update(first, state=DONE, reason=None)
    assert attempts.claim().number == 2


def test_of_two_that_see_the_same_dead_process_one_claims_the_run(attempts, monkeypatch):
    attempts.update(attempts.claim(), pids=(ended_process(),))
    seen = attempts.all()
    monkeypatch.setattr(Attempts, "all", lambda _: seen)  # both have looked before either claims
    assert [attempts.claim() is not None for _ in range(2)] == [True, False]


def test_a_killed_process_of_this_machine_is_known_at_once(attempts):
    attempt = attempts.update(attempts.claim(), pids=(ended_process(),))
    assert not attempts.alive(attempt)
    assert attempts.claim().number == 2
    assert not attempts.held(attempt)


def test_a_run_is_not_free_while_the_training_of_a_killed_study_still_ends(attempts):
    attempt = attempts.update(attempts.claim(), pids=(ended_process(), os.getpid()))
    assert attempts.alive(attempt) and attempts.ending(attempt) and attempts.claim() is None


def test_a_process_of_another_machine_is_dead_when_its_heartbeat_stops(attempts):
    attempt = attempts.update(attempts.claim(), host="another")
    path = attempts.folder / "0001.json"
    attempts.patience = 60
    assert attempts.alive(attempt)
    os.utime(path, (time.time() - 61,) * 2)
    assert not attempts.alive(attempt)
    attempts.beat(attempt)
    assert attempts.alive(attempt)


def test_a_record_that_was_never_finished_counts_as_that_of_another_machine(attempts):
    attempts.claim()
    (attempts.folder / "0001.json").write_text('{"number": 1')
    assert attempts.claim() is None
    os.utime(attempts.folder / "0001.json", (time.time() - attempts.patience - 1,) * 2)
    assert attempts.claim().number == 2


def test_how_an_attempt_ended_is_read_again(attempts):
    attempts.update(attempts.claim(), state=FAILED, reason="no memory", seconds={"fit": 2.5}, memory=7)
    (attempt,) = attempts.all()
    assert (attempt.state, attempt.reason, attempt.seconds, attempt.memory) == (FAILED, "no memory", {"fit": 2.5}, 7)
