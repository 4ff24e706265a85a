"""`ulcompress demo`: a photograph compressed and drawn beside AVIF and JPEG."""

from __future__ import annotations

import argparse
from pathlib import Path

from ulcompress.commands.options import Verbs, add_codec, add_limit, add_rate, load_codec
from ulcompress.commands.streams import report


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("demo", help="compress a photograph and draw it beside AVIF and JPEG")
    parser.add_argument("image", nargs="?", type=Path, help="photograph (default: scikit-image's `coffee`)")
    add_codec(parser, "mini-cgdm")
    parser.add_argument("--caption", help="caption of the image")
    add_rate(parser)
    add_limit(parser)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the results (default: demo)")
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Write the files and the drawing of the demonstration; return the exit status."""
    from ulcompress.evaluation import demo

    codec, limit = load_codec(options), options.max_pixels
    for path in demo(codec, options.image, options.out, options.caption, options.rate, max_pixels=limit):
        report(str(path))
    return 0
