"""A codec directory on the disk: three files that are replaced together, and what they say of themselves."""

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
"""Folders within: of an update that is being written, and of one that is complete, some of whose files may have been
moved to their places already."""


def file_of(directory: Path, name: str) -> Path:
    """Return where a file of a codec is, which may be in an update that was interrupted."""
    return path if (path := directory / UPDATE / name).is_file() else directory / name


@contextmanager
def replaced(directory: Path) -> Iterator[Path]:
    """Give an empty folder; the files in it take the places of the directory's, all or none, when the block ends.

    They are complete on the disk before the folder gets the name under which `file_of` looks for it. An interruption
    before leaves the old files, one after it the new ones; the next update moves these to their places.
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
    """Let a second writer wait; a lock ends with its process, so that what is left over then is nobody's."""
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
    """Move the files of a complete update to their places."""
    update = directory / UPDATE
    if update.is_dir():
        for path in update.iterdir():
            path.replace(directory / path.name)
        _flush(directory)
        update.rmdir()


def _flush(path: Path) -> None:
    """Have a file, or the names in a folder, written to the disk."""
    if fcntl is None and path.is_dir():  # which Windows does not open
        return
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def metadata(directory: Path) -> dict[str, str]:
    """Return the safetensors metadata of a codec directory without reading its weights.

    Raises:
        ValueError: The file cannot be read, or its fingerprint is none.
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
