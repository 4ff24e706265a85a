"""Standard output and standard error, which may be closed, unread, full, or of an encoding with few letters."""

from __future__ import annotations

import io
import os
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from ulcompress.functional.lines import one_line, printable

PACKAGE = Path(__file__).parents[1]


def prepare() -> None:
    """Let neither a letter nor the reader of standard error decide how a command ends; for the start of a process."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller: the next file would get its number
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.stderr = _Unread(
        open(sys.stderr.fileno(), "wb", closefd=False),  # noqa: SIM115
        encoding=sys.stderr.encoding,
        errors="backslashreplace",
        line_buffering=True,
    )
    warnings.formatwarning = _one_line_of_ours


def report(line: str, stream: TextIO | None = None) -> None:
    """Print a line on what was done, by default on standard output; it stays done where the line cannot be printed."""
    place = stream or sys.stdout
    try:
        print(printable(line), file=place, flush=True)
    except OSError as error:
        silence(place)
        if not isinstance(error, BrokenPipeError):
            complain(f"the report cannot be printed ({error.strerror}); the work goes on")


def complain(line: str) -> None:
    """Print a line on standard error with the program's name before it."""
    report(f"ulcompress: {line}", sys.stderr)


def drop_unprinted() -> None:
    """Let go of what standard output does not take, of which Python would complain once more at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        silence(sys.stdout)


def silence(stream: TextIO) -> None:
    """Send what a stream still holds, and all that follows, to nowhere."""
    with suppress(io.UnsupportedOperation), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


class _Unread(io.TextIOWrapper):
    """A stream that does not mind when nobody reads it: progress bars, warnings and libraries write there too."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            silence(self)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            silence(self)


_plain = warnings.formatwarning


def _one_line_of_ours(message, category, filename, lineno, line=None) -> str:
    """Write our own warnings as the errors are, those of others with the place that they come from."""
    if Path(filename).is_relative_to(PACKAGE):
        return f"ulcompress: {one_line(message) if isinstance(message, Warning) else printable(message)}\n"
    return _plain(message, category, filename, lineno, line)
