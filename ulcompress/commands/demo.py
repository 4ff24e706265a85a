"""`ulcompress demo`: a photograph compressed and drawn beside AVIF."""

from __future__ import annotations

import argparse
from pathlib import Path

from ulcompress.commands.options import Verbs, add_codec, add_limit, load_codec, natural, positive
from ulcompress.commands.streams import report


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("demo", help="compress a photograph and draw it beside AVIF at the same bytes")
    parser.add_argument("image", nargs="?", type=Path, help="photograph (default: scikit-image's `coffee`)")
    add_codec(parser, "mini")
    parser.add_argument("--caption", help="caption of the image")
    parser.add_argument(
        "--rate", action="append", type=positive, metavar="N", help="a row; repeat for more (default: every rate)"
    )
    parser.add_argument(
        "--steps",
        action="append",
        type=natural,
        metavar="N",
        help="a column: steps of the sampler; repeat for more (default: the codec's own)",
    )
    parser.add_argument(
        "--anchor", action="append", metavar="NAME", help="a column: jpeg, webp, avif, jxl, ... (default: avif)"
    )
    add_limit(parser)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the results (default: demo)")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="the drawing (default: a PNG in that folder)")
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Write the files and the drawing of the demonstration; return the exit status."""
    from ulcompress.evaluation import demo

    written = demo(
        load_codec(options),
        options.image,
        options.out,
        options.caption,
        rates=options.rate or (),
        steps=options.steps or (),
        anchors=options.anchor or ("avif",),
        picture=options.picture,
        max_pixels=options.max_pixels,
    )
    for path in written:
        report(str(path))
    return 0
