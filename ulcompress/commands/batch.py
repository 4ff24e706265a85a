"""One verb on many files, with a report for each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ulcompress.commands.streams import complain, report
from ulcompress.commands.targets import STDIN, STDOUT, Job
from ulcompress.files import write_whole
from ulcompress.functional.allocation import allocating
from ulcompress.functional.lines import one_line


def each_file(jobs: Sequence[Job], one: Callable[[Path, Path], str]) -> int:
    """Call `one` on each file and print its line; return the exit status.

    `one` takes source and target and returns a line. Where it raises ValueError or OSError, or an allocation fails, the
    error is printed and the other files are done.
    """
    failures = 0
    for source, target in jobs:
        try:
            with allocating(str(source)):
                line = one(source, target)
        except BrokenPipeError:  # nobody reads standard output any more
            raise
        except (ValueError, OSError, MemoryError) as error:
            failures += 1
            complain(about(source, error))
        else:
            report(line, sys.stderr if target == STDOUT else sys.stdout)
    return 1 if failures else 0


def about(source: Path, error: Exception) -> str:
    """Return an error in one line that names its file."""
    return one_line(error) if str(source) in str(error) else f"{source}: {one_line(error)}"


def read(source: Path) -> bytes:
    """Return the content of a file or of standard input."""
    return sys.stdin.buffer.read() if source == STDIN else source.read_bytes()


def write(target: Path, data: bytes) -> None:
    """Write a file as a whole, or to standard output; ValueError where that is a terminal."""
    if target != STDOUT:
        write_whole(target, data)
    elif sys.stdout.isatty():
        raise ValueError("standard output is a terminal; send it to a file, or give -o FILE")
    else:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
