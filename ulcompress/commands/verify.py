"""`ulcompress verify`: whether .ulc files hold the same symbols whatever the threads, precisions and processors."""

from __future__ import annotations

import argparse
from pathlib import Path

from ulcompress.commands.batch import about
from ulcompress.commands.decompress import directory_of
from ulcompress.commands.options import Verbs, add_limit, add_trust
from ulcompress.commands.streams import report
from ulcompress.functional.allocation import allocating


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("verify", help="whether a .ulc file holds the same symbols on other machines")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".ulc files")
    parser.add_argument("--codec", help="codec directory (default: the bundled or imported one that the file names)")
    parser.add_argument(
        "--compile", metavar="BACKEND", help="compile the reading as well, by this backend of torch.compile: inductor"
    )
    add_trust(parser)
    add_limit(parser)
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Read each file under each condition; return the exit status.

    Raises:
        ValueError: A file cannot be read, or its symbols differ under a condition, the first of which is named.
    """
    for file in options.files:
        try:
            with allocating(str(file)):
                _verify(file, options)
        except ValueError as error:
            raise ValueError(about(file, error)) from error
    return 0


def _verify(path: Path, options: argparse.Namespace) -> None:
    from ulcompress.commands.verification import CodedFile, conditions, difference

    data = path.read_bytes()
    codec = options.codec or directory_of(data, max_pixels=options.max_pixels)
    file = CodedFile(data, codec, tuple(options.trust), options.max_pixels)
    expected = file.read()
    report(f"{path}: " + ", ".join(f"{name} {len(integers)}" for name, integers in expected.items()))
    for condition in conditions(file, compiler=options.compile):
        if condition.missing:
            report(f"  {condition.name:<24} left out: {condition.missing}")
            continue
        if found := difference(condition, expected):
            raise ValueError(f"with {condition.name} {found}")
        report(f"  {condition.name:<24} the same")
