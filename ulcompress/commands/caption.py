"""`ulcompress caption`: BLIP-2 captions of images."""

from __future__ import annotations

import argparse
from pathlib import Path

from ulcompress.commands.options import Verbs
from ulcompress.commands.streams import report


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("caption", help="BLIP-2 captions of images, for training and for compress --captions")
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="images and folders of images")
    parser.add_argument("--out", type=Path, help="one file of JSON lines (default: <name>.txt beside each image)")
    parser.add_argument("--model", default="", help="hub id or directory of a BLIP-2 (default: opt-2.7b-coco)")
    parser.add_argument("--revision", help="commit, tag or branch of the model on the hub")
    parser.add_argument("--dtype", default="float32", help="float32, float16 or bfloat16 (default: float32)")
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    parser.add_argument("--batch-size", type=int, default=8, help="images captioned at once (default: 8)")
    parser.add_argument("--force", action="store_true", help="replace existing captions")
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Caption the images that have no caption; return the exit status."""
    from ulcompress.captioning.captioner import DEFAULT, BlipCaptioner
    from ulcompress.captioning.captions import BesideImages, CaptionFile, caption_images
    from ulcompress.images import find_images

    images = find_images(options.inputs)
    store = (
        CaptionFile(options.out, [path for path in options.inputs if path.is_dir()]) if options.out else BesideImages()
    )
    captioner = BlipCaptioner(
        model=options.model or DEFAULT, revision=options.revision, dtype=options.dtype, device=options.device
    )
    result = caption_images(captioner, images, store, batch_size=options.batch_size, force=options.force)
    report(f"{result.made} captions made, {result.kept} existed, {len(result.unreadable)} images unreadable")
    return 1 if result.unreadable else 0
