"""Folders: which files lie below them."""

from __future__ import annotations

import os
import warnings
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
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
    return [Path(file) for file in list_folder(folder, suffixes).files]


@dataclass
class Listing:
    """What lies below a folder."""

    files: list[str] = field(default_factory=list)
    """Paths that begin with that of the folder, in the order of `pathlib`: by their parts."""
    folders: dict[str, int] = field(default_factory=dict)
    """Each folder that was searched, with its time of modification in nanoseconds: a file more or less changes it."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Number of hidden files with one of the suffixes, and of links and folders that are no use."""


def list_folder(folder: str | os.PathLike[str], suffixes: Collection[str]) -> Listing:
    """List the files below a folder with one of some suffixes, by the rules of `files_below`."""
    listing = Listing()
    listing.files = sorted(_files(folder, frozenset(suffixes), listing), key=_by_parts)
    return listing


def _by_parts(path: str) -> str:
    return path.replace(os.sep, "\0")


def _files(folder: str | os.PathLike[str], suffixes: frozenset[str], listing: Listing) -> Iterator[str]:
    """Yield the regular files below; linked folders come last, so that a file is found under its real path."""
    folders, links, seen = deque([os.fspath(Path(folder))]), deque[str](), set()
    while folders or links:
        place = folders.popleft() if folders else links.popleft()
        status = os.stat(place)
        if (identity := (status.st_dev, status.st_ino)) in seen:
            _leave_out(place, "it leads to a folder that is searched already", listing)
            continue
        seen.add(identity)
        listing.folders[place] = status.st_mtime_ns
        for entry in _listed(place, listing):
            known = os.path.splitext(entry.name)[1].lower() in suffixes
            path = entry.name if place == "." else os.path.join(place, entry.name)
            if entry.name.startswith("."):
                listing.left_out["hidden files"] += known
            elif _leads_nowhere(entry, listing):
                continue
            elif entry.is_dir():
                (links if entry.is_symlink() else folders).append(path)
            elif known and entry.is_file():
                yield path


def _listed(place: str, listing: Listing) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(place) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        _leave_out(place, error.strerror or error, listing)
        return []


def _leads_nowhere(entry: os.DirEntry[str], listing: Listing) -> bool:
    if not entry.is_symlink():
        return False
    try:
        entry.stat()
    except OSError as error:
        _leave_out(entry.path, f"it leads nowhere, {error.strerror}", listing)
        return True
    return False


def _leave_out(place: str, reason: object, listing: Listing) -> None:
    listing.left_out["links and folders"] += 1
    warnings.warn(f"{place} is left out: {reason}", stacklevel=2)


def _some(suffixes: Collection[str]) -> str:
    """Name a few suffixes."""
    usual = [suffix for suffix in (".png", ".jpg", ".webp") if suffix in suffixes]
    shown = usual if len(suffixes) > 3 and usual else sorted(suffixes)
    more = len(suffixes) - len(shown)
    return ", ".join(shown) + (f" and {more} other suffixes" if more else "")
