"""`ulcompress caption`: BLIP-2 captions of images."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ulcompress.commands.options import Verbs, add_devices
from ulcompress.commands.streams import report
from ulcompress.commands.targets import is_folder
from ulcompress.functional.cores import threads
from ulcompress.functional.processes import in_processes

if TYPE_CHECKING:
    from ulcompress.captioning.captions import Captioned, CaptionedImage, ImageSet

JOURNAL = "captions.jsonl"
"""File of captions in a folder of shards, from which an interrupted run continues."""


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("caption", help="BLIP-2 captions of images, for training and for compress --captions")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="images, folders of images, and shards with --out")
    parser.add_argument(
        "--out",
        help="one file of JSON lines, or for shards also a folder, which gets them again with <key>.txt beside each "
        "image (default: <name>.txt beside each image)",
    )
    parser.add_argument("--model", default="", help="hub id or directory of a BLIP-2 (default: opt-2.7b-coco)")
    parser.add_argument("--revision", help="commit, tag or branch of the model on the hub")
    parser.add_argument("--dtype", default="float32", help="float32, float16 or bfloat16 (default: float32)")
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    add_devices(parser)
    parser.add_argument("--batch-size", type=int, default=8, help="images captioned at once (default: 8)")
    parser.add_argument("--force", action="store_true", help="replace existing captions")
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Caption the images that have no caption; return the exit status."""
    from ulcompress.captioning.captions import check_batch_size
    from ulcompress.data.locations import names_shards

    check_batch_size(options.batch_size)
    result = _caption_shards(options) if any(map(names_shards, options.inputs)) else _caption_files(options)
    report(f"{result.made} captions made, {result.kept} existed, {len(result.unreadable)} images unreadable")
    return 1 if result.unreadable else 0


def _caption_files(options: argparse.Namespace) -> Captioned:
    from ulcompress.captioning.captions import BesideImages, CaptionFile, ImageFiles, caption_set
    from ulcompress.images import find_images

    images = ImageFiles(find_images(options.inputs))
    folders = [path for path in map(Path, options.inputs) if path.is_dir()]
    store = CaptionFile(Path(options.out), folders) if options.out else BesideImages()
    return caption_set(images, store, partial(_describe, options, images), force=options.force)


def _caption_shards(options: argparse.Namespace) -> Captioned:
    from ulcompress.captioning.captions import CaptionFile, caption_set
    from ulcompress.captioning.shards import shard_paths, write_shards
    from ulcompress.data.index import CaptionKind
    from ulcompress.data.sources import open_source

    if options.out is None:
        raise ValueError(f"{options.inputs[0]}: captions of shards need a file or a folder of their own; give --out")
    source = open_source(options.inputs)
    folder = Path(options.out) if is_folder(options.out) else None
    targets = shard_paths(source, folder) if folder else {}
    folders = [Path(container.location) for container in source.index.containers if container.location]
    store = CaptionFile(folder / JOURNAL if folder else Path(options.out), folders)
    kinds = source.index.samples["caption"]
    result = caption_set(
        source,
        store,
        partial(_describe, options, source),
        force=options.force,
        has_caption=lambda number: bool(targets) and kinds[number] != CaptionKind.NONE,
    )
    if targets:
        write_shards(source, store, targets)
    return result


class CaptionShare(NamedTuple):
    """What one process captions."""

    options: argparse.Namespace
    images: ImageSet
    numbers: Sequence[int]
    device: str


def _describe(
    options: argparse.Namespace, images: ImageSet, numbers: Sequence[int], report: Callable[[CaptionedImage], None]
) -> None:
    """Caption images in `--devices` processes."""
    from ulcompress.functional.devices import device_of_rank

    count = min(options.devices, len(numbers))
    devices = [device_of_rank(options.device, rank) if count > 1 else options.device for rank in range(count)]
    shares = [CaptionShare(options, images, numbers[rank::count], device) for rank, device in enumerate(devices)]
    in_processes(_describe_share, shares, report, threads=options.threads or threads(count))


def _describe_share(share: CaptionShare, report: Callable[[CaptionedImage], None]) -> None:
    from ulcompress.captioning.captioner import DEFAULT, BlipCaptioner
    from ulcompress.captioning.captions import describe_batches

    options = share.options
    captioner = BlipCaptioner(
        model=options.model or DEFAULT, revision=options.revision, dtype=options.dtype, device=share.device
    )
    describe_batches(captioner, share.images, options.batch_size, share.numbers, report)
