"""Bytes of files on this machine and elsewhere: what fsspec reads, with further attempts where it fails."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import IO, Any, TypeVar

from ulcompress.data.span import Span
from ulcompress.functional.lines import one_line

PIPE = "pipe:"
"""What a location that is the output of a shell command begins with."""
ATTEMPTS = 3
WAIT = 1.0
"""Seconds before the second attempt; twice as many before the third."""
BLOCK = 8 << 20
"""Bytes of one request while a remote file is read from its beginning to its end."""
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
# What storages call the properties that change with a file; others, the time of access for one, change without it.
_PROPERTIES = (
    "size",
    "mtime",
    "ETag",
    "Last-Modified",
    "Content-MD5",
    "LastModified",
    "generation",
    "md5Hash",
    "blob_id",
)

T = TypeVar("T")


def is_pipe(location: str) -> bool:
    """Say whether a location is the output of a command."""
    return location.startswith(PIPE)


def is_local(location: str) -> bool:
    """Say whether a location is a path on this machine."""
    return not is_pipe(location) and "://" not in location


def filesystem(location: str) -> tuple[Any, str]:
    """Return fsspec's file system of a location, and the path in it; ValueError names the package that it needs."""
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(location)
    except ImportError as error:
        scheme = location.partition("://")[0]
        needed = f"pip install 'ulcompress[{_EXTRAS[scheme]}]'" if scheme in _EXTRAS else "install what it names"
        raise ValueError(f"{location}: {one_line(error)}; {needed}") from error
    except ValueError as error:
        raise ValueError(
            f"got {location!r}: {one_line(error)}; give a path, https://, s3://, gs:// or hf://"
        ) from error


def patiently(action: Callable[[], T], location: str, but: type[Exception] = ValueError) -> T:
    """Return what an action on a location returns, tried again where it fails; OSError after the last attempt.

    Errors of the content pass at once: ValueError, and those of the class `but`.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return action()
        except FileNotFoundError as error:  # nor will it be there in a second
            raise FileNotFoundError(f"{location}: no such file") from error
        except (ValueError, but):
            raise
        except Exception as error:  # each storage has its own
            if attempt == ATTEMPTS:
                raise OSError(f"{location}: {one_line(error) or type(error).__name__}") from error
            time.sleep(WAIT * 2 ** (attempt - 1))
    raise AssertionError("every attempt returns or raises")


def read_all(location: str) -> bytes:
    """Return the content of a file; raises OSError."""
    files, path = filesystem(location)
    return patiently(lambda: files.cat_file(path), location)


def properties(location: str) -> str:
    """Return what changes when the content of a file does; nothing for a command. Raises OSError."""
    if is_pipe(location):
        return ""
    if is_local(location):
        status = os.stat(location)
        return f"size={status.st_size} mtime={status.st_mtime_ns}"
    files, path = filesystem(location)
    info = patiently(lambda: files.info(path), location)
    return " ".join(f"{name}={info[name]}" for name in _PROPERTIES if info.get(name) is not None)


def has_ranges(location: str) -> bool:
    """Say whether ranges of a remote file can be read without what lies before them; raises OSError."""
    files, path = filesystem(location)

    def second_byte() -> bool:
        with files.open(path, "rb", block_size=1, cache_type="none") as file:
            if not file.seekable():
                return False
            file.seek(1)
            file.read(1)
        return True

    try:
        return patiently(second_byte, location)
    except ValueError:  # so fsspec says that a server sends the whole file
        return False


def open_file(location: str) -> IO[bytes]:
    """Open a file to be read once from its beginning to its end, though with jumps; raises OSError."""
    if is_local(location):
        return open(location, "rb")
    files, path = filesystem(location)
    # fsspec finds out in the second block only that a server sends whole files; a block of 0 makes it take the file so.
    whole = location.startswith(("http://", "https://")) and not has_ranges(location)
    options = {"block_size": 0} if whole else {"block_size": BLOCK, "cache_type": "readahead"}
    return patiently(lambda: files.open(path, "rb", **options), location)


def read_spans(spans: Sequence[Span]) -> list[bytes | OSError]:
    """Read ranges of files, those of one remote storage at the same time; an error stands in the place of its range."""
    found: list[bytes | OSError] = [b""] * len(spans)
    remote = []
    for place, span in enumerate(spans):
        if is_local(os.fspath(span.path)):
            found[place] = _local(span)
        else:
            remote.append(place)
    for place, content in zip(remote, _remote([spans[place] for place in remote]), strict=True):
        found[place] = content
    return found


def _local(span: Span) -> bytes | OSError:
    try:
        return span.read()
    except OSError as error:
        return error


def _remote(spans: Sequence[Span]) -> list[bytes | OSError]:
    found: list[bytes | OSError] = [OSError("not read")] * len(spans)
    for attempt in range(ATTEMPTS):
        missing = [place for place, content in enumerate(found) if isinstance(content, OSError)]
        if not missing:
            break
        time.sleep(WAIT * 2 ** (attempt - 1) if attempt else 0)
        for place, content in zip(missing, _once([spans[place] for place in missing]), strict=True):
            found[place] = content
    return found


def _once(spans: Sequence[Span]) -> list[bytes | OSError]:
    """Read ranges, those of one kind of storage by one call."""
    found: list[bytes | OSError] = [b""] * len(spans)
    by_scheme: dict[str, list[int]] = {}
    for place, span in enumerate(spans):
        by_scheme.setdefault(os.fspath(span.path).partition("://")[0], []).append(place)
    for places in by_scheme.values():
        some = [spans[place] for place in places]
        for place, content in zip(places, _ranges(some), strict=True):
            found[place] = _checked(spans[place], content)
    return found


def _ranges(spans: Sequence[Span]) -> list[bytes | Exception]:
    opened = [filesystem(os.fspath(span.path)) for span in spans]
    starts, ends = [span.offset for span in spans], [span.offset + span.size for span in spans]
    try:
        return opened[0][0].cat_ranges([path for _, path in opened], starts, ends, on_error="return")
    except Exception as error:  # each storage has its own
        return [error] * len(spans)


def _checked(span: Span, content: bytes | Exception) -> bytes | OSError:
    if isinstance(content, Exception):
        return OSError(f"{span.path}: {one_line(content) or type(content).__name__}")
    if len(content) != span.size:
        return OSError(f"{span.path}: got {len(content)} bytes instead of {span.size}, it was changed or truncated")
    return bytes(content)
