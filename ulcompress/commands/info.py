"""`ulcompress info`: the content of a .ulc file, and the nominal bits of an experiment."""

from __future__ import annotations

import argparse
from pathlib import Path

from ulcompress.commands.batch import about
from ulcompress.commands.options import Verbs, add_limit, add_trust
from ulcompress.commands.streams import complain
from ulcompress.functional.allocation import allocating
from ulcompress.functional.lines import printable


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("info", help="content of a .ulc file, or the nominal bits of an experiment")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".ulc files, or an experiment's YAML files")
    parser.add_argument("--codec", help="codec directory (default: the bundled or imported one that the file names)")
    parser.add_argument(
        "--table", action="store_true", help="a table of the files' bits: header, each stream, their ideal sum, real"
    )
    add_trust(parser)
    add_limit(parser)
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Print the content of the files; return the exit status."""
    for file in options.files:
        if not file.is_file():
            raise ValueError(f"no file {file}")
    if options.files[0].suffix in (".yaml", ".yml"):
        from ulcompress.commands.nominal import describe_experiment

        print(describe_experiment(options.files))
        return 0
    if options.table:
        from ulcompress.commands.bit_table import tabulate

        print(tabulate(options.files, options.codec, trust=options.trust, max_pixels=options.max_pixels), end="")
        return 0
    return max(_show(file, options) for file in options.files)


def _show(file: Path, options: argparse.Namespace) -> int:
    """Print the content of a file; return 0, or 1 with a line on standard error."""
    from ulcompress.commands.inspection import describe

    try:
        with allocating(str(file)):
            lines = describe(file, options.codec, trust=options.trust, max_pixels=options.max_pixels).split("\n")
    except (ValueError, OSError, MemoryError) as error:
        complain(about(file, error))
        return 1
    print("\n".join(map(printable, lines)), flush=True)
    return 0
