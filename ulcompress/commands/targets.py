"""The jobs of a verb that takes many files: the source and the target of each."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ulcompress.commands.streams import complain
from ulcompress.files import is_stream

STDIN, STDOUT = Path("/dev/stdin"), Path("/dev/stdout")
"""The paths for `-`, under which messages name it."""
FOLDER_ENDS = tuple(end for end in (os.sep, os.altsep) if end)


class Job(NamedTuple):
    """One file to be coded."""

    source: Path
    target: Path


def source_path(text: str) -> Path:
    """Parse an input of the command line."""
    return STDIN if text == "-" else Path(text)


def jobs_of(options: argparse.Namespace, find: Callable[[Sequence[Path]], list[Path]], suffix: str) -> list[Job]:
    """Return the jobs and create their folders; the number of those that `--skip-existing` skips is reported.

    Args:
        options: Options with `inputs`, `output`, `force` and `skip_existing`.
        find: Returns the files of paths; those below a folder begin with its path.
        suffix: Suffix of the outputs, unless the user names a file.

    Raises:
        ValueError: An input is missing, the output is one file for several inputs, two inputs would be written to one
            file, or a file exists already.
    """
    jobs = _with_targets(options.output, _relative_paths(options.inputs, find), suffix)
    _check_distinct(jobs)
    if not options.force:
        jobs = _without_existing(jobs, skip=options.skip_existing)
    for folder in dict.fromkeys(job.target.parent for job in jobs):
        folder.mkdir(parents=True, exist_ok=True)
    return jobs


def _relative_paths(inputs: Sequence[Path], find: Callable[[Sequence[Path]], list[Path]]) -> dict[Path, Path]:
    """Return all files with their paths relative to the input folder; for an input file that is its name."""
    paths: dict[Path, Path] = {}
    for path in inputs:
        below = path.is_dir()
        for source in [path] if path == STDIN else find([path]):
            paths.setdefault(source, source.relative_to(path) if below else Path(source.name))
    return paths


def _with_targets(output: str | None, paths: Mapping[Path, Path], suffix: str) -> list[Job]:
    if output is None:
        return [Job(source, STDOUT if source == STDIN else source.with_suffix(suffix)) for source in paths]
    if is_folder(output):
        return [Job(source, Path(output) / path.with_suffix(suffix)) for source, path in paths.items()]
    target = STDOUT if output == "-" else Path(output)
    if len(paths) > 1 and (target == STDOUT or not _is_no_file(target)):
        raise ValueError(f"got {len(paths)} files for the one output {output}; name a folder, with {os.sep} at its end")
    return [Job(source, target) for source in paths]


def _without_existing(jobs: list[Job], *, skip: bool) -> list[Job]:
    """Raise ValueError for jobs whose target exists, or skip them."""
    if not skip and (first := next((job.target for job in jobs if not _is_free(job.target)), None)):
        advice = "use --force to overwrite, --skip-existing to write the others, or -o to write elsewhere"
        raise ValueError(f"{first} exists; {advice}")
    remaining = [job for job in jobs if _is_free(job.target)]
    if len(remaining) < len(jobs):
        complain(f"{len(jobs) - len(remaining)} of {len(jobs)} exist already and are skipped")
    return remaining


def is_folder(output: str) -> bool:
    """Say whether an output is a folder: an existing one, with a separator at its end, or new and without a suffix."""
    path = Path(output)
    return output != "-" and (output.endswith(FOLDER_ENDS) or path.is_dir() or not (path.suffix or path.exists()))


def _is_free(target: Path) -> bool:
    return _is_no_file(target) or not os.path.lexists(target)


def _is_no_file(target: Path) -> bool:
    """Say whether a target is standard output, a device or a pipe, so that nothing is overwritten."""
    return target == STDOUT or is_stream(target)


def _check_distinct(jobs: Sequence[Job]) -> None:
    """Raise ValueError for two sources with one target."""
    sources: dict[Path, Path] = {}
    for source, target in jobs:
        other = sources.setdefault(target, source)
        if other != source and not _is_no_file(target):
            raise ValueError(f"{other} and {source} would both be written to {target}; rename one or run them apart")
