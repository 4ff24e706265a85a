"""What decides the result of a training: its configuration, its data, the code."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import callbacks
import ulcompress
from ulcompress.evaluation.results.store import digest
from ulcompress.training.run import flat

_PLACE = ("name", "root", "overwrite", "ckpt_path", "config", "weights_only")
_DISPLAY = ("trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.logger")
"""Options that say where a run lies and what it shows."""
_NO_TRAINING = ("commands", "evaluation", "testing", "training/study", "weights")
"""Folders of ulcompress whose code decides nothing in a training."""
_LIBRARIES = ("torch", "lightning", "numpy")
_PATHS = ("train", "validation", "captions")
"""Arguments of the data module that are paths."""


def identity(configuration: Mapping[str, Any]) -> dict[str, str]:
    """Return the digests of `configuration` (seeds included), `data` and `code`, which together are a run's identity.

    Data are known by names, sizes and times of change of their files, which are not read.

    Args:
        configuration: As `resolve` returns it, of a command line without a name of its own.
    """
    options = {key: value for key, value in flat(configuration) if not _is_place(key)}
    data = configuration.get("data") or {}
    return {
        "configuration": digest(options),
        "data": digest({name: list(_files(data[name])) for name in _PATHS if data.get(name)}),
        "code": code(),
    }


def files_digest(paths: Iterable[str]) -> str:
    """Return a digest of files and of all files below folders: names, sizes, and times of change."""
    return digest(list(_files(list(paths))))


@cache
def code() -> str:
    """Return a digest of the source that decides trainings, and of the versions of the libraries below it."""
    content = hashlib.sha256()
    for package in (ulcompress, callbacks):
        folder = Path(str(package.__file__)).parent
        for path in sorted(folder.rglob("*.py")):
            name = path.relative_to(folder).as_posix()
            if not name.startswith(_NO_TRAINING):
                content.update(f"{name}\0".encode() + path.read_bytes())
    return digest([content.hexdigest(), {library: version(library) for library in _LIBRARIES}])


def _is_place(key: str) -> bool:
    return key in _PLACE or key.startswith(_DISPLAY)


def _files(paths: str | list[str]) -> Iterator[tuple[str, int, int]]:
    for pattern in [paths] if isinstance(paths, str) else paths:
        found = [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern, recursive=True))
        for path in map(Path, found):
            inner = sorted(path.rglob("*")) if path.is_dir() else [path]
            for file in inner:
                if file.is_file():
                    state = file.stat()
                    yield file.relative_to(path.parent).as_posix(), state.st_size, state.st_mtime_ns
