"""Many files through one verb: their outputs, and a report for each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from ulcompress.allocation import allocating


def targets_of(options: argparse.Namespace, sources: list[Path], suffix: str) -> list[Path]:
    """Name the output of every input, and refuse before any work is done what would overwrite a file."""
    output: Path | None = options.output
    if output is None:
        targets = [source.with_suffix(suffix) for source in sources]
    elif output.is_dir() or len(sources) > 1 or options.inputs[0].is_dir() or not output.suffix:
        targets = [output / f"{source.stem}{suffix}" for source in sources]
    else:
        targets = [output]
    if len(set(targets)) < len(targets):
        twice = next(target for target in targets if targets.count(target) > 1)
        raise ValueError(f"two inputs would both be written to {twice}; rename one or run them apart")
    existing = [target for target in targets if target.exists()]
    if existing and not options.force:
        raise ValueError(f"{existing[0]} exists; use --force to overwrite, or -o to write elsewhere")
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
    return targets


def each_file(sources: list[Path], targets: list[Path], one: Callable[[Path, Path], str]) -> int:
    """Go through the files; a bad one is reported and does not stop the others."""
    failures = 0
    for source, target in zip(sources, targets, strict=True):
        try:
            with allocating(str(source)):
                print(one(source, target), flush=True)
        except (ValueError, OSError, MemoryError) as error:
            failures += 1
            message = " ".join(str(error).split())
            print(f"ulcompress: {message if str(source) in message else f'{source}: {message}'}", file=sys.stderr)
    return 1 if failures else 0


def find_files(inputs: list[Path]) -> list[Path]:
    """Return the files, and of folders all `.ulc` files below them, sorted; ValueError where there are none."""
    files = []
    for path in inputs:
        if not path.exists():
            raise ValueError(f"no file or folder {path}")
        found = sorted(path.rglob("*.ulc")) if path.is_dir() else [path]
        if not found:
            raise ValueError(f"no .ulc files in {path}")
        files += found
    return files
