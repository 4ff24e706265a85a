"""The folder that keeps indices of large sets, and copies of shards, from one training to the next."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """Return the folder of a kind of files, in `ULCOMPRESS_CACHE` or the user's cache folder; it may not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("ULCOMPRESS_CACHE") or f"{base}/ulcompress").expanduser() / kind


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time be in the block; a killed one leaves no lock behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{path}.lock", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
