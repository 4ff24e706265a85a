"""Files: written as a whole or not at all, and read with a one-line error where they are damaged."""

import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

STALE = 24 * 3600
"""Seconds without a write after which a temporary file counts as left behind by a killed process."""


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file as `whole_file` does."""
    with whole_file(path) as file:
        file.write(data)


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file that replaces an older one when the block ends, and that is removed where the block fails.

    Until then it is hidden beside the target, as `.ulcompress-<random>.partial`; only a killed process leaves it
    behind, and a later writer to the folder removes it after a day. The permissions of an older file stay. A link is
    followed, so that its target is replaced. Devices and pipes are written directly.

    Raises:
        OSError: The file cannot be written; one line names the path and says why.
    """
    try:
        if is_stream(path):
            with open(path, "wb") as file:
                yield file
        else:
            with _replacing(Path(os.path.realpath(path))) as file:
                yield file
    except OSError as error:
        raise OSError(f"{path}: cannot be written ({error.strerror or error})") from error


def is_stream(path: str | Path) -> bool:
    """Say whether a path exists and is neither a file nor a folder, but a device, a pipe or a socket."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


@contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    _remove_stale(target.parent)
    partial = target.with_name(f".ulcompress-{secrets.token_hex(8)}.partial")
    try:
        with open(partial, "xb") as file:  # exclusive: it opens no existing file or link
            yield file
            file.flush()
            os.fsync(file.fileno())  # the folder needs none: after a power cut the path has the old file or the new one
        if target.exists():
            partial.chmod(stat.S_IMODE(target.stat().st_mode))
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@cache
def _remove_stale(folder: Path) -> None:
    """Remove the temporary files of killed processes from a folder, once per process."""
    for partial in folder.glob(".ulcompress-*.partial"):
        with suppress(OSError):  # another process may have removed it
            if time.time() - partial.stat().st_mtime > STALE:
                partial.unlink()


def read_torch(path: str | Path) -> Any:
    """Return the content of a file of torch.save without executing anything in it; ValueError says why it cannot."""
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything on other files
        raise ValueError(next(iter(str(error).splitlines()), type(error).__name__)) from error


def read_yaml(path: Path, *, kind: str, section: str) -> dict[str, Any]:
    """Read a YAML file of named sections, `${...}` resolved as OmegaConf does.

    Args:
        path: Path of the file.
        kind: Kind of file for the error, `experiment` for instance.
        section: Name of an expected section for the error, `model` for instance.

    Raises:
        ValueError: The file cannot be read, or holds something else.
    """
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (OmegaConfBaseException, YAMLError, OSError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        held = type(content).__name__
        raise ValueError(f"{path} is no {kind}: it holds a {held}, not sections such as `{section}`")
    return {str(key): value for key, value in content.items()}
