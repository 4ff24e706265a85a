"""The runs of a study, carried out on this machine, several at a time."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from ulcompress.files import write_whole
from ulcompress.functional.cores import threads
from ulcompress.training.study.attempts import DONE, FAILED, Attempt
from ulcompress.training.study.execution import Execution, Say
from ulcompress.training.study.measurement import measurements
from ulcompress.training.study.plan import INTERRUPTED, MOST_FAILURES, WAITING, StudyRun, failures, state
from ulcompress.training.study.study import Study

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass
class Workers:
    """Threads that claim runs and carry them out, until none is left that nobody else is at."""

    study: Study
    runs: Sequence[StudyRun]
    jobs: int = 1
    """How many runs at a time; they share the cores, and have one of the visible GPUs each."""
    keep_going: bool = True
    """Whether the others are carried out when a run has failed."""
    retry: bool = False
    """Whether runs are tried again that have failed `MOST_FAILURES` times."""
    say: Say = print
    handle_signals: bool = True
    """Whether SIGTERM and Ctrl-C end the runs in order."""
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the runs are to end in order."""
    received: int | None = None
    """The signal that has set it."""
    _at_work: list[Future[None]] = field(default_factory=list)

    def work(self) -> int | None:
        """Carry out what is left; return the signal that ended it, or None."""
        with self._signals(), ThreadPoolExecutor(self.jobs) as pool:
            self._at_work = [pool.submit(self._work, job) for job in range(self.jobs)]
            self._wait()
            for worker in self._at_work:
                worker.result()
        return self.received

    @property
    def done(self) -> int:
        """How many of the runs are done."""
        return sum(complete(self.study, run) for run in self.runs)

    def stop(self) -> None:
        """End the runs in order, with checkpoints, and return when they have ended."""
        self.stopping.set()
        self._wait()

    def _wait(self) -> None:
        while not all(worker.done() for worker in self._at_work):
            time.sleep(0.1)  # signals are handled between short waits alone

    def _work(self, job: int) -> None:
        tried: set[str] = set()
        while not self.stopping.is_set():
            if (claimed := self._claim(tried)) is None:
                if not any(map(_is_ending, self.runs)):
                    return
                self.stopping.wait(1.0)
                continue
            run, attempt = claimed
            wanted = measurements(self.study, run)
            execution = Execution(run, wanted, self._environment(run, job), self.stopping, self.say)
            self._tell(run, execution.carry_out(attempt), tried)

    def _claim(self, tried: set[str]) -> tuple[StudyRun, Attempt] | None:
        for run in self.runs:
            if (
                run.run.name not in tried
                and left(self.study, run, retry=self.retry)
                and (attempt := run.attempts.claim())
            ):
                if not complete(self.study, run):
                    return run, attempt
                run.attempts.update(attempt, state=DONE)  # another one has done it in the meantime
        return None

    def _tell(self, run: StudyRun, attempt: Attempt, tried: set[str]) -> None:
        reason = f": {attempt.reason}" if attempt.reason else ""
        self.say(f"{run.title}: {attempt.state}{reason}")
        if attempt.state != FAILED:
            return
        if self.retry or failures(run.attempts.all()) >= MOST_FAILURES:
            tried.add(run.run.name)
            if not self.keep_going:
                self.stopping.set()

    def _environment(self, run: StudyRun, job: int) -> dict[str, str]:
        environment = {"OMP_NUM_THREADS": str(_threads(run, self.jobs))}
        if self.jobs > 1 and (devices := _devices()):
            environment["CUDA_VISIBLE_DEVICES"] = devices[job % len(devices)]
        return environment

    @contextmanager
    def _signals(self) -> Iterator[None]:
        if not self.handle_signals or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self.stopping.set()


def complete(study: Study, run: StudyRun) -> bool:
    """Return whether a run is trained and measured."""
    return run.trained and all(one.cost is not None for one in measurements(study, run))


def left(study: Study, run: StudyRun, *, retry: bool = False) -> bool:
    """Return whether a run is left to be done by whoever claims it; `retry` counts those that have failed."""
    now = state(run, measured=complete(study, run))
    return now in (WAITING, INTERRUPTED) or (now == FAILED and retry)


def _is_ending(run: StudyRun) -> bool:
    """Return whether a run will be free in a moment: the study that was at it was killed, and its training ends."""
    attempts = run.attempts.all()
    return bool(attempts) and run.attempts.ending(attempts[-1])


def _threads(run: StudyRun, jobs: int) -> int:
    """Return how many threads a run has: as many as it began with, since other sums of floats are other numbers."""
    path = run.folder / "threads"
    try:
        return int(path.read_text())
    except FileNotFoundError:
        run.folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, str(count := threads(jobs)).encode())
        return count


def _devices() -> list[str]:
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]
