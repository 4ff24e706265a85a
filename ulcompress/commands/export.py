"""`ulcompress export`: a training checkpoint to a codec directory."""

from __future__ import annotations

import argparse
from pathlib import Path

from ulcompress.commands.options import Verbs, add_trust
from ulcompress.commands.streams import report


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("export", help="a training checkpoint to a codec directory")
    parser.add_argument("checkpoint", type=Path, help="Lightning checkpoint of `ulcompress fit`")
    parser.add_argument("directory", type=Path, help="codec directory to write")
    parser.add_argument("--card", type=Path, help="model card, written into the directory as README.md")
    parser.add_argument("--last", action="store_true", help="take the last step's weights, not their moving average")
    add_trust(parser)
    parser.add_argument("--force", action="store_true", help="overwrite an existing codec")
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Write the codec directory; return the exit status."""
    from ulcompress.pretrained import export

    if (options.directory / "config.yaml").exists() and not options.force:
        raise ValueError(f"{options.directory} holds a codec; use --force to overwrite it")
    card = options.card.read_text() if options.card else ""
    export(options.checkpoint, options.directory, card=card, averaged=not options.last, trust=options.trust)
    report(f"{options.checkpoint} -> {options.directory}")
    return 0
