"""Folders: which files lie below them."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path


def find_files(paths: Iterable[str | os.PathLike[str]], suffixes: Collection[str], *, kind: str) -> list[Path]:
    """Return the files that are named, and of the folders that are named those below with one of some suffixes.

    The files of a folder are sorted, and each path is returned once. Folders are searched as `files_below` does; what
    is named is taken though it be hidden.

    Args:
        paths: Files and folders.
        suffixes: In lower case, with their dot; those of files may be in any case.
        kind: What is looked for, for the error: `image`.

    Raises:
        ValueError: A path is missing, or a folder holds nothing of the kind.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise ValueError(f"{path}: no such file or folder; check the path")
        files = files_below(path, suffixes) if path.is_dir() else [path]
        if not files:
            raise ValueError(
                f"{path}: no {kind} in this folder or below; looked for {_some(suffixes)}; give another folder"
            )
        found |= dict.fromkeys(files)
    return list(found)


def files_below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Return the files below a folder with one of some suffixes, sorted, each beginning with the path of the folder.

    Hidden files and folders are left out. A linked folder is followed unless it was searched already, under its real
    name or through another link. Links that lead nowhere or back, and folders that cannot be read, are left out with
    a warning each.
    """
    return sorted(Path(entry) for entry in _entries(folder) if Path(entry).suffix.lower() in suffixes)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the regular files below; linked folders come last, so that a file is found under its real path."""
    folders, links, seen = deque[str | os.DirEntry[str]]([os.fspath(folder)]), deque[os.DirEntry[str]](), set()
    while folders or links:
        place = folders.popleft() if folders else links.popleft()
        if (identity := _identity(place)) in seen:
            _leave_out(place, "it leads to a folder that is searched already")
            continue
        seen.add(identity)
        for entry in _listed(place):
            if _leads_nowhere(entry):
                continue
            if entry.is_dir():
                (links if entry.is_symlink() else folders).append(entry)
            elif entry.is_file():
                yield entry


def _listed(place: str | os.DirEntry[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(place) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        _leave_out(place, error.strerror or error)
        return []


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    if not entry.is_symlink():
        return False
    try:
        entry.stat()
    except OSError as error:
        _leave_out(entry, f"it leads nowhere, {error.strerror}")
        return True
    return False


def _identity(place: str | os.DirEntry[str]) -> tuple[int, int]:
    status = os.stat(place)
    return status.st_dev, status.st_ino


def _leave_out(place: str | os.DirEntry[str], reason: object) -> None:
    warnings.warn(f"{os.fspath(place)} is left out: {reason}", stacklevel=2)


def _some(suffixes: Collection[str]) -> str:
    """Name a few suffixes."""
    usual = [suffix for suffix in (".png", ".jpg", ".webp") if suffix in suffixes]
    shown = usual if len(suffixes) > 3 and usual else sorted(suffixes)
    more = len(suffixes) - len(shown)
    return ", ".join(shown) + (f" and {more} other suffixes" if more else "")
