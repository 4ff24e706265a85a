"""`ulcompress info`: what a .ulc file holds, and the nominal bits of an experiment."""

from __future__ import annotations

import argparse
from pathlib import Path

from ulcompress.commands.batch import each_file
from ulcompress.commands.options import Verbs, add_limit


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("info", help="what a .ulc file holds, or the nominal bits of an experiment")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".ulc files, or an experiment's YAML files")
    parser.add_argument("--codec", help="codec directory, where it is not a bundled one")
    add_limit(parser)
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Print what the files hold; return the exit status."""
    from ulcompress.inspection import describe

    def one(source: Path, _: Path) -> str:
        return describe(source, options.codec, max_pixels=options.max_pixels)

    for file in options.files:
        if not file.is_file():
            raise ValueError(f"no file {file}")
    if options.files[0].suffix in (".yaml", ".yml"):
        from ulcompress.nominal import describe_experiment

        print(describe_experiment(options.files))
        return 0
    return each_file(options.files, options.files, one)
