"""`ulcompress compress`: images to .ulc files."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from ulcompress.commands.batch import FileAction, each_file, read, write
from ulcompress.commands.options import (
    Verbs,
    add_budget,
    add_codec,
    add_coding,
    add_devices,
    add_inputs,
    add_limit,
    check_search,
    load_codec,
    max_bytes_of,
)
from ulcompress.commands.streams import complain
from ulcompress.commands.targets import STDIN, jobs_of

if TYPE_CHECKING:
    from PIL import Image


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("compress", help="images to .ulc files")
    add_inputs(parser, "images and folders of images")
    add_codec(parser)
    text = parser.add_argument_group("caption of each image, by at most one of these options")
    text.add_argument("--caption", help="caption of the one image")
    text.add_argument("--captions", action="store_true", help="first line of <name>.txt beside each image, if any")
    text.add_argument(
        "--captioner",
        nargs="?",
        const="",
        metavar="MODEL",
        help="caption by a BLIP-2 (hub id or directory); write this option after the images",
    )
    add_budget(parser)
    add_coding(parser)
    add_limit(parser)
    add_devices(parser)
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Write a .ulc file for each image; return the exit status."""
    from ulcompress.images import find_images

    chosen = [name for name in ("caption", "captions", "captioner") if getattr(options, name) not in (None, False)]
    if len(chosen) > 1:
        raise ValueError(f"got --{' and --'.join(chosen)}; give one of them")
    _check_budget(options)
    jobs = jobs_of(options, find_images, ".ulc")
    if options.caption and len(jobs) > 1:
        raise ValueError(f"--caption goes with one image, got {len(jobs)}; use --captions or --captioner")
    return each_file(jobs, options, coder) if jobs else 0


def coder(options: argparse.Namespace) -> FileAction:
    """Return the function that codes one image to a file."""
    from ulcompress.images import from_pil

    optimizer = optimizer_of(options)
    codec = load_codec(options, encoder_only=optimizer is None)
    describe = describer(options)

    def one(source: Path, target: Path) -> str:
        image = image_of(source, options.max_pixels)
        caption = describe(source, image)
        for name, conditioner in codec.conditioners.items():
            if caption and name not in options.without and (remark := conditioner.remark(caption)):
                complain(f"{source}: {remark}")
        start = time.perf_counter()
        coding = {"without": options.without, "max_pixels": options.max_pixels}
        details = ""
        if optimizer is not None:
            from ulcompress.optimization import refine_visibly

            code = codec.encode(image, caption, rate=options.rate, **coding)
            code, best = refine_visibly(optimizer, codec, from_pil(image), code, steps=options.online, name=str(source))
            details = f", measure {best[0]:.4f} -> {best[-1]:.4f} in {len(best) - 1} steps" if best else ""
            data = codec.write(code)
        else:
            budget = max_bytes_of(options, image.width, image.height)
            data = codec.compress(image, caption, rate=options.rate, max_bytes=budget, **coding)
        seconds = time.perf_counter() - start
        write(target, data)
        bpp = 8 * len(data) / (image.width * image.height)
        details += f", {caption!r}" if caption else ""
        return f"{source} -> {target}: {len(data)} bytes, {bpp:.4f} bpp, {seconds:.2f} s{details}"

    return one


def _check_budget(options: argparse.Namespace) -> None:
    """Raise ValueError for a budget beside what sets the size as well."""
    if options.max_bytes is None and options.bpp is None:
        return
    for name in ("rate", "online"):
        if getattr(options, name) is not None:
            raise ValueError(f"got --{name} with --max-bytes or --bpp; give one of them")


def image_of(source: Path, max_pixels: int) -> Image.Image:
    """Open an image file, or one from standard input."""
    from ulcompress.images import open_image

    if source == STDIN:
        return open_image(BytesIO(read(source)), name="standard input", max_pixels=max_pixels)
    return open_image(source, max_pixels=max_pixels)


def optimizer_of(options: argparse.Namespace):
    """Return the optimiser of the codes, or None without `--online`."""
    check_search(options, options.online is not None)
    if options.online is None:
        return None
    from ulcompress.losses import FeatureDistance
    from ulcompress.optimization import OnlineOptimizer

    perceptual = FeatureDistance(weights=options.online_perceptual) if options.online_perceptual else None
    return OnlineOptimizer(variables=options.online_variables, perceptual=perceptual)


def describer(options: argparse.Namespace) -> Callable[[Path, Image.Image], str | None]:
    """Return the function from an image's path and pixels to its caption: the option's, a text file's, or BLIP-2's."""
    from ulcompress.captioning.captions import first_caption

    if options.captions:
        return lambda source, _: first_caption(source)
    if options.captioner is None:
        return lambda _, __: options.caption
    from ulcompress.captioning.captioner import DEFAULT, BlipCaptioner

    captioner = BlipCaptioner(model=options.captioner or DEFAULT, device=options.device)
    return lambda _, image: captioner.caption([image])[0]
