"""Local copies of shards in which no sample can be reached without reading what lies before it.

Such are compressed shards, Parquet, the output of a command, and files of a server that sends only whole files. Each is
unpacked to a plain tar file in the cache folder when a sample of it is read, and the oldest copies make place.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from ulcompress.data.cache import cache_folder, locked
from ulcompress.data.locations import suffix
from ulcompress.data.parquet import write_tar
from ulcompress.data.storage import PIPE, has_ranges, is_local, is_pipe, open_file, patiently
from ulcompress.files import whole_file

GIGABYTES = 50.0
"""Space that copies take, unless `ULCOMPRESS_CACHE_GB` says otherwise."""
CHUNK = 1 << 20
"""Bytes that are copied at once."""
RECENT = 60
"""Seconds for which a copy stays after it was used, whatever the space."""
_GZIP = b"\x1f\x8b"


def needs_copy(location: str) -> bool:
    """Say whether the samples of a shard can be read from a copy only; raises OSError."""
    return suffix(location) != ".tar" or is_pipe(location) or not (is_local(location) or has_ranges(location))


def local_copy(location: str, properties: str, caption_field: str | None = None) -> Path:
    """Return a tar file with the content of a shard, made where there is none.

    Args:
        location: The shard.
        properties: What changes when the shard does (`storage.properties`).
        caption_field: Column of the captions in Parquet.

    Raises:
        OSError: The shard cannot be read, after several attempts.
    """
    name = hashlib.sha256("\0".join((location, properties, caption_field or "")).encode(errors="surrogateescape"))
    path = cache_folder("shards") / f"{name.hexdigest()[:32]}.tar"
    with suppress(FileNotFoundError):
        os.utime(path)
        return path
    with locked(path):
        if not path.exists():
            patiently(lambda: _unpack(location, path, caption_field), location)
            _make_place(path.parent)
    return path


def _unpack(location: str, path: Path, caption_field: str | None) -> None:
    with _content(location) as content, whole_file(path) as file:
        if suffix(location) == ".parquet":
            with _searchable(content) as searchable:
                write_tar(searchable, file, caption_field, location)
        else:
            packed = suffix(location) != ".tar" or _begins_with(content, _GZIP)
            shutil.copyfileobj(cast(IO[bytes], gzip.GzipFile(fileobj=content)) if packed else content, file, CHUNK)


@contextmanager
def _content(location: str) -> Iterator[IO[bytes]]:
    if not is_pipe(location):
        with open_file(location) as file:
            yield file
        return
    with subprocess.Popen(location.removeprefix(PIPE), shell=True, stdout=subprocess.PIPE) as process:
        yield cast(IO[bytes], process.stdout)
    if process.returncode:
        raise OSError(f"the command ended with status {process.returncode}")


@contextmanager
def _searchable(content: IO[bytes]) -> Iterator[IO[bytes]]:
    """Yield the content as a file with random access, from a temporary one where a server sends only whole files."""
    if content.seekable():
        yield content
        return
    with tempfile.TemporaryFile() as file:
        shutil.copyfileobj(content, file, CHUNK)
        yield file


def _begins_with(content: IO[bytes], mark: bytes) -> bool:
    """Look at the first bytes of a file or a pipe without taking them."""
    peek = getattr(content, "peek", None)
    return peek is not None and peek(len(mark))[: len(mark)] == mark


def _make_place(folder: Path) -> None:
    """Remove the copies that were not used for the longest time."""
    left = float(os.environ.get("ULCOMPRESS_CACHE_GB") or GIGABYTES) * 1e9
    used = {path: path.stat() for path in folder.glob("*.tar")}
    for path in sorted(used, key=lambda path: -used[path].st_mtime):
        left -= used[path].st_size
        if left < 0 and used[path].st_mtime < time.time() - RECENT:
            path.unlink(missing_ok=True)
