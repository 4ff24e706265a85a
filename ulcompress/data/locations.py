"""Where images and shards lie: paths, URLs, commands, and patterns of them."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from ulcompress.data.storage import filesystem, is_local, is_pipe, read_all
from ulcompress.images import image_suffixes

SHARDS = (".tar", ".tar.gz", ".tgz", ".parquet")
"""Suffixes of files that hold many images."""
LISTS = (".txt", ".list")
"""Suffixes of files that list locations, one a line."""
_NUMBERS = re.compile(r"\{(\d+)\.\.(\d+)\}")
_CHOICE = re.compile(r"\{([^{}]*,[^{}]*)\}")


def expand(pattern: str) -> list[str]:
    """Return the folders, image files and shards that a pattern names.

    Args:
        pattern: A path, a URL, or `pipe:` and a shell command that writes a tar file. `{000..099}` and `{a,b}` stand
            for each number and each choice, `*`, `?`, `[]` and `**` match what exists. A `.txt` or `.list` file lists
            further patterns, one a line, relative to its own folder.

    Raises:
        ValueError: Nothing is there, or a file is neither an image, a shard nor a list.
    """
    if is_pipe(pattern):  # commands have commas in braces of their own
        return _numbered(pattern)
    if is_local(pattern) and Path(pattern).expanduser().exists():
        return _one(os.path.expanduser(pattern))
    return [place for text in _braced(pattern) for place in _found(text, pattern)]


def suffix(location: str) -> str:
    """Return the suffix in lower case, `.tar.gz` as one; `.tar` for a command."""
    if is_pipe(location):
        return ".tar"
    name = PurePosixPath(location if is_local(location) else location.split("?")[0]).name.lower()
    return next((end for end in SHARDS if name.endswith(end)), os.path.splitext(name)[1])


def is_shard(location: str) -> bool:
    """Say whether a location is a shard, by its suffix."""
    return suffix(location) in SHARDS


def names_shards(pattern: str) -> bool:
    """Say whether a pattern is of shards, or of what is not on this machine; nothing is looked up."""
    return not is_local(pattern) or any(map(is_shard, _braced(pattern)))


def _found(location: str, pattern: str) -> list[str]:
    """Return what one location without braces names; `pattern` is what the user wrote."""
    if not is_local(location):
        return _remote(location)
    if Path(location := os.path.expanduser(location)).exists():
        return _one(location)
    known = image_suffixes() | set(SHARDS)
    matches = set(map(Path, glob.glob(location, recursive=True)))
    if not matches:
        raise ValueError(
            f"got {pattern!r}: no such file or folder, and as a pattern it matches nothing; check the path"
        )
    # What lies in a folder that matches too is found there.
    outer = sorted(match for match in matches if not any(parent in matches for parent in match.parents))
    return [str(match) for match in outer if match.is_dir() or suffix(str(match)) in known]


def _one(path: str) -> list[str]:
    if os.path.isdir(path) or suffix(path) in image_suffixes() | set(SHARDS):
        return [path]
    if suffix(path) in LISTS:
        return _listed(path)
    raise ValueError(
        f"got {path!r}, neither an image, a shard ({_names(SHARDS)}) nor a list of locations ({_names(LISTS)})"
    )


def _remote(location: str) -> list[str]:
    if is_shard(location) and not glob.has_magic(location):
        return [location]
    if suffix(location) in LISTS:
        return _listed(location)
    files, path = filesystem(location)
    try:
        found = files.glob(path) if glob.has_magic(path) else files.find(path)
    except Exception as error:  # each storage has its own
        raise ValueError(f"got {location!r}, which cannot be listed ({error}); name its shards, with braces") from error
    if shards := [files.unstrip_protocol(str(file)) for file in sorted(found) if is_shard(str(file))]:
        return shards
    raise ValueError(f"got {location!r}, where no shards were found; looked for {_names(SHARDS)}")


def _listed(location: str) -> list[str]:
    lines = [line.strip() for line in read_all(location).decode().splitlines()]
    named = [_beside(line, location) for line in lines if line and not line.startswith("#")]
    return [place for pattern in named for place in expand(pattern)]


def _beside(line: str, location: str) -> str:
    """Return what a line of a list means, relative to the folder of the list."""
    if not is_local(line) or line.startswith(("/", "~")) or "/" not in location:
        return line
    return f"{location.rpartition('/')[0]}/{line}"


def _braced(pattern: str) -> list[str]:
    return [text for numbered in _numbered(pattern) for text in _chosen(numbered)]


def _numbered(pattern: str) -> list[str]:
    """Replace each `{000..099}` by each of its numbers, with as many digits."""
    pieces = _NUMBERS.split(pattern)
    ranges = [
        [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
        for first, last in zip(pieces[1::3], pieces[2::3], strict=True)
    ]
    if [] in ranges:
        raise ValueError(f"got {pattern!r}, in which a range ends before it begins; write {{000..099}} for instance")
    return ["".join(_woven(pieces[::3], numbers)) for numbers in itertools.product(*ranges)]


def _chosen(pattern: str) -> list[str]:
    pieces = _CHOICE.split(pattern)
    choices = [text.split(",") for text in pieces[1::2]]
    return ["".join(_woven(pieces[::2], words)) for words in itertools.product(*choices)]


def _woven(texts: Collection[str], words: Collection[str]) -> list[str]:
    return [piece for pair in itertools.zip_longest(texts, words, fillvalue="") for piece in pair]


def _names(suffixes: Collection[str]) -> str:
    return ", ".join(suffixes)
