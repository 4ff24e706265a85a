"""What a verb of many files is to do: from which file to which."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ulcompress.commands.streams import complain
from ulcompress.files import is_stream

STDIN, STDOUT = Path("/dev/stdin"), Path("/dev/stdout")
"""What `-` stands for, and how messages call it."""
FOLDER_ENDS = tuple(end for end in (os.sep, os.altsep) if end)


class Job(NamedTuple):
    """One file to be coded."""

    source: Path
    target: Path


def source_path(text: str) -> Path:
    """Parse an input of the command line."""
    return STDIN if text == "-" else Path(text)


def jobs_of(options: argparse.Namespace, find: Callable[[Sequence[Path]], list[Path]], suffix: str) -> list[Job]:
    """Return all that is to be done, and make the folders for it; those that `--skip-existing` skips are reported.

    Args:
        options: With `inputs`, `output`, `force` and `skip_existing`.
        find: Returns the files that paths stand for; those below a folder begin with its path.
        suffix: Of the outputs, unless the user names one.

    Raises:
        ValueError: An input is missing, the output is the name of one file for several, two would be written to one,
            or one is there already.
    """
    jobs = _named(options.output, _places(options.inputs, find), suffix)
    _refuse_twins(jobs)
    existing = [job for job in jobs if os.path.lexists(job.target) and not _takes_all(job.target)]
    if existing and not (options.force or options.skip_existing):
        advice = "use --force to overwrite, --skip-existing to do the others, or -o to write elsewhere"
        raise ValueError(f"{existing[0].target} exists; {advice}")
    if existing and options.skip_existing:
        complain(f"{len(existing)} of {len(jobs)} are there already and skipped")
        jobs = [job for job in jobs if job not in existing]
    for folder in dict.fromkeys(job.target.parent for job in jobs):
        folder.mkdir(parents=True, exist_ok=True)
    return jobs


def _places(inputs: Sequence[Path], find: Callable[[Sequence[Path]], list[Path]]) -> dict[Path, Path]:
    """Return all files with their places below the folders that were named; of a file that was named, its name."""
    places: dict[Path, Path] = {}
    for path in inputs:
        for source in [path] if path == STDIN else find([path]):
            places.setdefault(source, source.relative_to(path) if path.is_dir() else Path(source.name))
    return places


def _named(output: str | None, places: Mapping[Path, Path], suffix: str) -> list[Job]:
    if output is None:
        return [Job(source, STDOUT if source == STDIN else source.with_suffix(suffix)) for source in places]
    if _is_folder(output):
        return [Job(source, Path(output) / place.with_suffix(suffix)) for source, place in places.items()]
    target = STDOUT if output == "-" else Path(output)
    if len(places) > 1 and (target == STDOUT or not _takes_all(target)):
        raise ValueError(
            f"got {len(places)} files for the one output {output}; name a folder, {output.rstrip(os.sep)}{os.sep}"
        )
    return [Job(source, target) for source in places]


def _is_folder(output: str) -> bool:
    """Say whether an output is a folder: it is one, ends as one, or is new and has no suffix."""
    path = Path(output)
    return output != "-" and (output.endswith(FOLDER_ENDS) or path.is_dir() or not (path.suffix or path.exists()))


def _takes_all(target: Path) -> bool:
    """Say whether a target is no file of its own, which could be lost."""
    return target == STDOUT or is_stream(target)


def _refuse_twins(jobs: Sequence[Job]) -> None:
    sources: dict[Path, Path] = {}
    for source, target in jobs:
        other = sources.setdefault(target, source)
        if other != source and not _takes_all(target):
            raise ValueError(f"{other} and {source} would both be written to {target}; rename one or run them apart")
