"""`ulcompress import`: published weights to a codec directory."""

from __future__ import annotations

import argparse
from pathlib import Path

from ulcompress.commands.options import Verbs
from ulcompress.commands.streams import report


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("import", help="published weights to a codec directory")
    parser.add_argument("name", metavar="NAME", help="name of the published codec; `ulcompress models` lists them")
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="its file or folder as published (default: fetched)"
    )
    parser.add_argument("directory", type=Path, metavar="OUT", help="codec directory to write")
    parser.add_argument("--force", action="store_true", help="overwrite an existing codec")
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Write the codec directory; return the exit status."""
    from ulcompress.learned.importing import import_codec

    if (options.directory / "config.yaml").exists() and not options.force:
        raise ValueError(f"{options.directory} holds a codec; use --force to overwrite it")
    codec = import_codec(options.name, options.files, options.directory)
    report(f"{options.name} -> {options.directory}: fingerprint {codec.fingerprint.hex()}")
    return 0
