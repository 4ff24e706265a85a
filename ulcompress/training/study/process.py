"""A command in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

POLL = 0.1
"""Seconds between two looks at the process."""


@dataclass(frozen=True)
class Ending:
    """How a process ended."""

    status: int
    """Exit status; that of a signal is negative."""
    seconds: float
    memory: int
    """The most bytes of main memory that it had."""
    reason: str
    """The last line that it wrote."""

    @property
    def interrupted(self) -> bool:
        """Whether it was asked to end, and did so in order."""
        return self.status in (128 + signal.SIGTERM, 128 + signal.SIGINT, -signal.SIGTERM, -signal.SIGINT)


class Process:
    """A command of ulcompress, whose output goes to a file; it ends with this process (see `child`)."""

    def __init__(self, words: Sequence[str], log: Path, *, environment: Mapping[str, str]):
        """Start `ulcompress WORDS` with some more variables in its environment."""
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        self._began = time.monotonic()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ulcompress.training.study.child", *words],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                # Ctrl-C in the terminal reaches the study alone, which tells the process once.
                start_new_session=True,
            )
        self.pid = self._process.pid

    def wait(self, wanted: Callable[[], bool]) -> Ending:
        """Return how it ends; as soon as it is not wanted any more it is asked to end."""
        asked = False
        while True:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                break
            if not asked and not wanted():
                self._process.terminate()
                asked = True
            time.sleep(POLL)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if self._process.stdin is not None:
            self._process.stdin.close()
        scale = 1 if sys.platform == "darwin" else 1024
        seconds = time.monotonic() - self._began
        return Ending(self._process.returncode, seconds, usage.ru_maxrss * scale, self._reason())

    def _reason(self) -> str:
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        status = self._process.returncode
        if status < 0:
            return f"ended by {signal.Signals(-status).name}; memory that has run out is a frequent cause"
        return lines[-1] if lines else f"exit status {status}, without a message"
