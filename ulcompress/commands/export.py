"""`ulcompress export`: a training checkpoint to a codec directory."""

from __future__ import annotations

import argparse
from pathlib import Path

from ulcompress.commands.options import Verbs
from ulcompress.commands.streams import report


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("export", help="a training checkpoint to a codec directory")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--card", type=Path, help="model card to put into the directory as README.md")
    parser.add_argument("--last", action="store_true", help="weights of the last step, not their moving average")
    parser.add_argument("--force", action="store_true", help="overwrite an existing codec")
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Write the codec directory; return the exit status."""
    from ulcompress.pretrained import export

    if (options.directory / "config.yaml").exists() and not options.force:
        raise ValueError(f"{options.directory} holds a codec; use --force to overwrite it")
    card = options.card.read_text() if options.card else ""
    export(options.checkpoint, options.directory, card=card, averaged=not options.last)
    report(f"{options.checkpoint} -> {options.directory}")
    return 0
