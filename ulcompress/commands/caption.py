"""`ulcompress caption`: BLIP-2 captions of images."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ulcompress.commands.options import Verbs
from ulcompress.commands.streams import report

if TYPE_CHECKING:
    from PIL import Image


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("caption", help="BLIP-2 captions of images, for training and for compress --captions")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="images, folders of images, and shards with --out")
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
    from ulcompress.data.locations import names_shards
    from ulcompress.images import find_images, open_image

    if any(map(names_shards, options.inputs)):
        images, folders, read = _in_shards(options.inputs, options.out)
    else:
        images, read = find_images(options.inputs), open_image
        folders = [path for path in map(Path, options.inputs) if path.is_dir()]
    store = CaptionFile(options.out, folders) if options.out else BesideImages()
    captioner = BlipCaptioner(
        model=options.model or DEFAULT, revision=options.revision, dtype=options.dtype, device=options.device
    )
    result = caption_images(captioner, images, store, batch_size=options.batch_size, force=options.force, read=read)
    report(f"{result.made} captions made, {result.kept} existed, {len(result.unreadable)} images unreadable")
    return 1 if result.unreadable else 0


def _in_shards(inputs: list[str], out: Path | None) -> tuple[list[Path], list[Path], Callable[[Path], Image.Image]]:
    """Return the names of all images, those of their shards and folders, and the function that opens an image."""
    from ulcompress.data.sources import open_source

    if out is None:
        raise ValueError(f"{inputs[0]}: captions of shards need a file of their own; give --out FILE")
    source = open_source(inputs)
    places = {Path(source.name(index)): index for index in range(len(source))}
    folders = [Path(container.location) for container in source.index.containers if container.location]
    return list(places), folders, lambda path: source.image(places[path])
