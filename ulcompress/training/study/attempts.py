"""Attempts at a run: who carries it out, since when, and how it ended.

Attempts are numbered files in one folder. To claim a run is to create the next number, which the file system lets one
process do alone; so no two work on one run, on one machine or on several that share the folder. The file's time is the
heartbeat: a process that has been killed is known by its missing process on its own machine, and elsewhere by a
heartbeat that has not come for `PATIENCE`.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ulcompress.files import write_whole

RUNNING, DONE, INTERRUPTED, FAILED = "running", "done", "interrupted", "failed"
HEARTBEAT = 10.0
"""Seconds between two heartbeats."""
PATIENCE = 300.0
"""Seconds without one after which a process on another machine counts as dead. Network file systems tell others of a
change up to a minute late, and a training whose command was killed ends within `child.GRACE`."""


@dataclass(frozen=True)
class Attempt:
    """One process at one run."""

    number: int
    host: str
    pids: tuple[int, ...]
    """The process that claimed the run, and the one that it started, if any."""
    state: str = RUNNING
    reason: str | None = None
    """Why it failed, in one line."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Of each stage that was begun, up to its end or the last heartbeat."""
    memory: int = 0
    """The most bytes of main memory that one of its processes had."""


class Attempts:
    """The attempts at one run."""

    def __init__(self, folder: Path, *, patience: float = PATIENCE):
        """Take their folder, which need not exist yet."""
        self.folder = folder
        self.patience = patience

    def all(self) -> list[Attempt]:
        """Return the attempts, the last one last, which alone can be `running`."""
        return list(self._read())

    def alive(self, attempt: Attempt) -> bool:
        """Return whether the process of a running attempt is still there."""
        if attempt.state != RUNNING:
            return False
        if attempt.host == socket.gethostname() and attempt.pids:
            return any(map(_exists, attempt.pids))
        return self._age(attempt.number) < self.patience

    def ending(self, attempt: Attempt) -> bool:
        """Return whether the claiming process of this machine was killed, and the one that it started still ends."""
        return self.alive(attempt) and attempt.host == socket.gethostname() and not _exists(attempt.pids[0])

    def claim(self) -> Attempt | None:
        """Return a new attempt of this process; None where another process is at work or was faster."""
        earlier = self.all()
        if earlier and self.alive(earlier[-1]):
            return None
        attempt = Attempt(len(earlier) + 1, socket.gethostname(), (os.getpid(),))
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with open(self._path(attempt.number), "x") as file:
                json.dump(asdict(attempt), file)
        except FileExistsError:
            return None
        return attempt

    def held(self, attempt: Attempt) -> bool:
        """Return whether no other process has claimed the run since; a suspended one may have been given up."""
        return not self._path(attempt.number + 1).exists()

    def beat(self, attempt: Attempt) -> None:
        """Give a sign of life, in the time of the file system."""
        with suppress(OSError):
            os.utime(self._path(attempt.number))

    def update(self, attempt: Attempt, **changes: Any) -> Attempt:
        """Record changes of an attempt and return it."""
        attempt = replace(attempt, **changes)
        write_whole(self._path(attempt.number), json.dumps(asdict(attempt)).encode())
        return attempt

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:04}.json"

    def _read(self) -> Iterator[Attempt]:
        number = 1
        while (path := self._path(number)).exists():
            try:
                content = json.loads(path.read_bytes())
                yield Attempt(**{**content, "pids": tuple(content["pids"])})
            except (ValueError, TypeError, KeyError):  # it is just being created, or its process was killed then
                yield Attempt(number, host="", pids=())
            number += 1

    def _age(self, number: int) -> float:
        """Return the seconds since the last heartbeat, by the clock of the file system, which may be another one's."""
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".clock") as file:
            now = os.stat(file.name).st_mtime
        return now - self._path(number).stat().st_mtime


def _exists(pid: int) -> bool:
    """Return whether a process of this machine exists and has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _ended(pid)


def _ended(pid: int) -> bool:
    """Return whether Linux says that a process has ended and only waits for its parent to notice."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] in "ZX"
