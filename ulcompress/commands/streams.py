"""Standard output and standard error, which may be closed, full, a broken pipe, or of a limited encoding."""

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
    """Let no unencodable letter, and no closed standard error, end a command; called when the process starts."""
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
    show_warnings_in_one_line()


def show_warnings_in_one_line() -> None:
    """Format this package's warnings as its errors; in each process that may print some."""
    warnings.formatwarning = _one_line_of_ours


def report(line: str, stream: TextIO | None = None) -> None:
    """Print a line on finished work, by default on standard output; where it cannot be printed the work goes on."""
    output = stream or sys.stdout
    try:
        print(printable(line), file=output, flush=True)
    except OSError as error:
        silence(output)
        if not isinstance(error, BrokenPipeError):
            complain(f"the report cannot be printed ({error.strerror}); the work goes on")


def complain(line: str) -> None:
    """Print a line on standard error with the program's name before it."""
    report(f"ulcompress: {line}", sys.stderr)


def drop_unprinted() -> None:
    """Drop what standard output does not accept, which Python would otherwise report once more when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        silence(sys.stdout)


def silence(stream: TextIO) -> None:
    """Discard what a stream has buffered, and all that follows."""
    with suppress(io.UnsupportedOperation), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


class _Unread(io.TextIOWrapper):
    """A stream that drops its output when its reader is gone: progress bars, warnings and libraries write to it too."""

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
    """Format this package's warnings as its errors, and those of others with their file and line."""
    if Path(filename).is_relative_to(PACKAGE):
        return f"ulcompress: {one_line(message) if isinstance(message, Warning) else printable(message)}\n"
    return _plain(message, category, filename, lineno, line)
