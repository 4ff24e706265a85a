"""A codec directory on the disk: three files that are replaced together, and their metadata."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

CONFIGURATION, WEIGHTS, CARD = FILES = ("config.yaml", "model.safetensors", "README.md")
STAGED, UPDATE = ".new", ".update"
"""Folders in the directory: of an update that is being written, and of a complete one, some of whose files may already
have been moved into the directory."""


def file_of(directory: Path, name: str) -> Path:
    """Return the path of a codec's file, which may be in an update that was interrupted."""
    return path if (path := directory / UPDATE / name).is_file() else directory / name


@contextmanager
def replaced(directory: Path) -> Iterator[Path]:
    """Yield an empty folder; when the block ends, its files replace those of the directory, all or none.

    They are complete on the disk before the folder gets the name under which `file_of` looks for it. An interruption
    before that leaves the old files, one after it the new ones, which the next update moves into the directory.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with _alone(directory):
        _finish(directory)
        staged = directory / STAGED
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        try:
            yield staged
            for path in (*staged.iterdir(), staged):
                _flush(path)
            staged.rename(directory / UPDATE)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        _flush(directory)
        _finish(directory)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Let a second writer wait; a lock ends with its process, so that leftovers under the lock belong to no process."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with suppress(OSError):  # of file systems without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _finish(directory: Path) -> None:
    """Move the files of a complete update into the directory."""
    update = directory / UPDATE
    if update.is_dir():
        for path in update.iterdir():
            path.replace(directory / path.name)
        _flush(directory)
        update.rmdir()


def _flush(path: Path) -> None:
    """Write a file, or the entries of a folder, to the disk."""
    if fcntl is None and path.is_dir():  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def metadata(directory: Path) -> dict[str, str]:
    """Return the safetensors metadata of a codec directory without reading its weights.

    Raises:
        ValueError: The file cannot be read, or its fingerprint is not valid.
    """
    from safetensors import SafetensorError, safe_open

    path = file_of(directory, WEIGHTS)
    try:
        with safe_open(path, framework="numpy") as file:
            found = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}; get the codec again") from error
    fingerprint = found.get("fingerprint", "000000")
    if len(fingerprint) != 6 or set(fingerprint) - set("0123456789abcdef"):
        raise ValueError(f"{path} is damaged: its fingerprint is {fingerprint[:20]!r}, not six digits; get it again")
    return found
