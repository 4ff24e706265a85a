"""One run from its training to its numbers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ulcompress.files import write_whole
from ulcompress.functional.lines import one_line
from ulcompress.training.study.attempts import DONE, FAILED, HEARTBEAT, INTERRUPTED, Attempt
from ulcompress.training.study.measurement import StudyMeasurement
from ulcompress.training.study.plan import StudyRun
from ulcompress.training.study.process import Ending, Process

Say = Callable[[str], None]


class _Ended(Exception):
    """A stage did not come to its end."""

    def __init__(self, ending: Ending):
        super().__init__(ending.reason)
        self.ending = ending


@dataclass
class Execution:
    """Trains, exports and measures a run, going on from where an earlier attempt has ended."""

    run: StudyRun
    measurements: Sequence[StudyMeasurement]
    environment: Mapping[str, str]
    """Variables of its processes, such as the devices that they see."""
    stopping: threading.Event
    """Set when the run is to end in order, with a checkpoint."""
    say: Say = print
    """Takes a line for each stage that begins."""

    def carry_out(self, attempt: Attempt) -> Attempt:
        """Do what is left of a run that this process has claimed, and record how it ends."""
        self.attempt = attempt
        attempts = self.run.attempts
        with self._heartbeat():
            try:
                self._fit()
                for measurement in self.measurements:
                    self._measure(measurement)
            except _Ended as error:
                in_order = error.ending.interrupted
                state, reason = (INTERRUPTED, None) if in_order else (FAILED, one_line(error))
            except (ValueError, OSError) as error:
                state, reason = FAILED, one_line(error)
            except BaseException:  # Ctrl-C between two stages, for instance
                attempts.update(self.attempt, state=INTERRUPTED)
                raise
            else:
                state, reason = DONE, None
        return attempts.update(self.attempt, state=state, reason=reason)

    def _fit(self) -> None:
        if self.run.trained:
            return
        place = ["--name", self.run.run.name, "--root", str(self.run.run.root), "--ckpt_path", "last"]
        quiet = ["--trainer.enable_progress_bar", "false"]
        self._stage("fit", ["fit", *self.run.fit_words, *quiet, *place])
        write_whole(self.run.folder / "trained", b"")

    def _measure(self, measurement: StudyMeasurement) -> None:
        if measurement.cost is not None:
            return
        measurement.prepare()
        ending = self._stage(f"evaluate {measurement.variant.name}", measurement.words)
        measurement.finish(seconds=ending.seconds, memory=ending.memory)

    def _stage(self, name: str, words: Sequence[str]) -> Ending:
        self.say(f"{self.run.title}: {name}")
        process = Process(words, self.run.folder / f"{words[0]}.log", environment=self.environment)
        pids = (self.attempt.pids[0], process.pid)
        self.attempt = self.run.attempts.update(self.attempt, pids=pids)
        ending = process.wait(lambda: not self.stopping.is_set() and self.run.attempts.held(self.attempt))
        seconds = {**self.attempt.seconds, words[0]: self.attempt.seconds.get(words[0], 0) + ending.seconds}
        memory = max(self.attempt.memory, ending.memory)
        self.attempt = self.run.attempts.update(self.attempt, pids=pids[:1], seconds=seconds, memory=memory)
        if ending.status:
            raise _Ended(ending)
        return ending

    @contextmanager
    def _heartbeat(self) -> Iterator[None]:
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(HEARTBEAT):
                self.run.attempts.beat(self.attempt)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
