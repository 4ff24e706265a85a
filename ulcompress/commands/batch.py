"""One verb on many files, with a report for each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

from ulcompress.commands.streams import complain, report, show_warnings_in_one_line
from ulcompress.commands.targets import STDIN, STDOUT, Job
from ulcompress.files import write_whole
from ulcompress.functional.allocation import allocating
from ulcompress.functional.cores import threads
from ulcompress.functional.lines import one_line
from ulcompress.functional.processes import in_processes

FEW = 20
"""Number of files whose errors can be counted at a glance."""

FileAction: TypeAlias = Callable[[Path, Path], str]
"""Takes source and target of one file, and returns the line that reports it."""


class FileShare(NamedTuple):
    """What one process does."""

    options: argparse.Namespace
    """Those of the command, with the device of the process."""
    jobs: Sequence[Job]


class Done(NamedTuple):
    """The outcome of one file."""

    line: str
    to_stderr: bool = False
    """Whether standard output has the file itself."""
    failed: bool = False


def each_file(
    jobs: Sequence[Job], options: argparse.Namespace, prepare: Callable[[argparse.Namespace], FileAction]
) -> int:
    """Do one thing with each file, in `--devices` processes, and print its line in order; return the exit status.

    Where the action raises ValueError or OSError, or an allocation fails, the error is printed and the other files are
    done.

    Args:
        jobs: The files.
        options: Options of `options.add_devices`, and what `prepare` reads.
        prepare: Function, which can be pickled, from the options to the action; each process calls it once.

    Raises:
        ValueError: `prepare` raised it, or a process ended early.
    """
    shares = _shares(jobs, options)
    failures = 0

    def show(done: Done) -> None:
        nonlocal failures
        failures += done.failed
        if done.failed:
            complain(done.line)
        else:
            report(done.line, sys.stderr if done.to_stderr else sys.stdout)

    in_processes(partial(_each, prepare), shares, show, threads=options.threads or threads(len(shares)))
    if failures and len(jobs) > FEW:
        complain(f"{failures} of {len(jobs)} files failed, each with a line above; the others are done")
    return 1 if failures else 0


def _shares(jobs: Sequence[Job], options: argparse.Namespace) -> list[FileShare]:
    count = min(options.devices, len(jobs))
    if count == 1:
        return [FileShare(options, jobs)]
    if any(job.source == STDIN for job in jobs):
        raise ValueError(
            f"got - among {len(jobs)} inputs for {count} processes, which share no standard input; name it"
        )
    from ulcompress.functional.devices import device_of_rank

    def of_rank(rank: int) -> argparse.Namespace:
        return argparse.Namespace(**vars(options) | {"device": device_of_rank(options.device, rank)})

    return [FileShare(of_rank(rank), jobs[rank::count]) for rank in range(count)]


def _each(
    prepare: Callable[[argparse.Namespace], FileAction], share: FileShare, report: Callable[[Done], None]
) -> None:
    show_warnings_in_one_line()
    action = prepare(share.options)
    for source, target in share.jobs:
        report(_done(action, source, target))


def _done(action: FileAction, source: Path, target: Path) -> Done:
    try:
        with allocating(str(source)):
            return Done(action(source, target), to_stderr=target == STDOUT)
    except BrokenPipeError:  # nobody reads standard output any more
        raise
    except (ValueError, OSError, MemoryError) as error:
        return Done(about(source, error), failed=True)


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
