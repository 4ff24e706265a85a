"""Who does which run, and what happens when one fails or is to end; the runs themselves are processes of no length."""

import os
import signal
import threading
from typing import ClassVar

import pytest

from ulcompress.training.run import Run
from ulcompress.training.study import execution
from ulcompress.training.study.launchers import StudyJob, launch, parameters
from ulcompress.training.study.plan import StudyRun
from ulcompress.training.study.process import Ending
from ulcompress.training.study.study import MeasurementPlan, Study, Variant
from ulcompress.training.study.workers import Workers, complete


class Quick:
    """Ends as the test says, run by run."""

    pid = os.getpid()
    statuses: ClassVar[dict] = {}
    started: ClassVar[list] = []

    def __init__(self, words, log, *, environment):
        self.name = words[words.index("--name") + 1]
        Quick.started.append((self.name, environment))

    def wait(self, wanted):
        status = Quick.statuses.get(self.name, 0)
        return Ending(status(wanted) if callable(status) else status, 1.5, 1 << 20, f"{self.name} is broken")


@pytest.fixture
def started(monkeypatch):
    monkeypatch.setattr(execution, "Process", Quick)
    monkeypatch.setattr(Quick, "statuses", {})
    monkeypatch.setattr(Quick, "started", [])
    return Quick.started


@pytest.fixture
def study():
    return Study("trial", (), (Variant("base"),), (0, 1, 2), MeasurementPlan())


@pytest.fixture
def runs(tmp_path):
    from ulcompress.training.study.identity import code

    same = {"code": code()}
    return [StudyRun(Run(f"s{seed}", tmp_path), seed, same, (), (Variant("base"),), {}) for seed in range(3)]


def names(started):
    return [name for name, _ in started]


def test_all_runs_are_done_once(study, runs, started):
    workers = Workers(study, runs, say=lambda line: None)
    assert workers.work() is None and workers.done == 3
    Workers(study, runs, say=lambda line: None).work()
    assert names(started) == ["s0", "s1", "s2"]


def test_several_at_a_time_share_the_cores_and_do_nothing_twice(study, runs, started, monkeypatch):
    monkeypatch.setattr("ulcompress.training.study.workers.threads", lambda jobs: 8 // jobs)
    meeting = threading.Barrier(2, timeout=20)
    Quick.statuses.update({name: lambda wanted: meeting.wait() and 0 for name in ("s0", "s1")})
    Workers(study, runs, jobs=2, say=lambda line: None).work()
    assert sorted(names(started)) == ["s0", "s1", "s2"]
    assert {environment["OMP_NUM_THREADS"] for _, environment in started} == {"4"}
    assert (runs[0].folder / "threads").read_text() == "4"


def test_a_run_of_another_process_is_left_to_it(study, runs, started):
    runs[1].attempts.claim()
    Workers(study, runs, say=lambda line: None).work()
    assert names(started) == ["s0", "s2"]


def test_a_failed_run_is_tried_once_more_and_the_others_go_on(study, runs, started):
    Quick.statuses["s0"] = 1
    said = []
    Workers(study, runs, say=said.append).work()
    assert names(started) == ["s0", "s0", "s1", "s2"]
    assert said.count("base, seed 0: failed: s0 is broken") == 2
    Workers(study, runs, say=said.append).work()
    assert names(started)[4:] == []
    Quick.statuses.clear()
    Workers(study, runs, retry=True, say=said.append).work()
    assert names(started)[4:] == ["s0"] and complete(study, runs[0])


def test_a_study_can_end_with_the_first_failure(study, runs, started):
    Quick.statuses["s0"] = 1
    Workers(study, runs, keep_going=False, say=lambda line: None).work()
    assert names(started) == ["s0", "s0"]


def test_a_signal_lets_the_run_end_in_order_and_the_next_command_goes_on(study, runs, started):
    def interrupted(wanted):
        os.kill(os.getpid(), signal.SIGTERM)
        while wanted():
            threading.Event().wait(0.01)
        return 128 + signal.SIGTERM

    Quick.statuses["s1"] = interrupted
    before = signal.getsignal(signal.SIGTERM)
    workers = Workers(study, runs, say=lambda line: None)
    assert workers.work() == signal.SIGTERM and signal.getsignal(signal.SIGTERM) == before
    assert names(started) == ["s0", "s1"]
    (attempt,) = runs[1].attempts.all()
    assert attempt.state == "interrupted" and attempt.seconds == {"fit": 1.5}
    Quick.statuses.clear()
    Workers(study, runs, say=lambda line: None).work()
    assert names(started)[2:] == ["s1", "s2"]


def test_a_process_that_was_given_up_ends_its_training(study, runs, started):
    def taken_over(wanted):
        path = runs[0].attempts.folder / "0002.json"
        path.write_text("{}")
        assert not wanted()
        return 128 + signal.SIGTERM

    Quick.statuses["s0"] = taken_over
    Workers(study, runs[:1], say=lambda line: None).work()
    assert not complete(study, runs[0])


# 2026-11, submitit 1.5: its debug executor leaves the files of its logs open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed file")
def test_jobs_of_a_cluster(study, runs, started, tmp_path):
    pytest.importorskip("submitit")
    jobs = launch(study, runs, cluster="debug", folder=tmp_path / "jobs", options=parameters(["timeout_min=5"]))
    assert [job.result() for job in jobs] == [None] * 3 and sorted(names(started)) == ["s0", "s1", "s2"]


def test_a_job_whose_machine_is_taken_away_ends_in_order_and_is_queued_again(study, runs, started):
    pytest.importorskip("submitit")
    job, queued = StudyJob(study, runs[0]), []
    signalled = threading.Thread(target=lambda: queued.append(job.checkpoint()))

    def preempted(wanted):
        signalled.start()
        while wanted():
            threading.Event().wait(0.01)
        return 128 + signal.SIGTERM

    Quick.statuses["s0"] = preempted
    job()
    signalled.join()
    assert runs[0].attempts.all()[-1].state == "interrupted"
    Quick.statuses.clear()
    (delayed,) = queued
    delayed.function()
    assert complete(study, runs[0]) and names(started) == ["s0", "s0"]


def test_a_job_of_older_code_is_refused(study, runs, monkeypatch):
    monkeypatch.setattr("ulcompress.training.study.launchers.code", lambda: "newer")
    with pytest.raises(ValueError, match="the code has changed since this job was submitted"):
        StudyJob(study, runs[0])()


@pytest.mark.parametrize(
    ("cluster", "options", "message"),
    [("slurm", {"partitions": "x"}, "submitit: "), ("local", {"timeout_mins": 3}, "submitit: .*timeout_mins")],
)
def test_one_line_says_what_the_cluster_does_not_take(study, runs, tmp_path, cluster, options, message):
    pytest.importorskip("submitit")
    with pytest.raises(ValueError, match=message):
        launch(study, runs, cluster=cluster, folder=tmp_path / "jobs", options=options)


def test_parameters_of_a_cluster_are_keys_and_values():
    assert parameters(["timeout_min=5", "slurm_partition=gpu"]) == {"timeout_min": 5, "slurm_partition": "gpu"}
    with pytest.raises(ValueError, match="got 'timeout_min' for the cluster; write KEY=VALUE"):
        parameters(["timeout_min"])
