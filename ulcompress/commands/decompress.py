"""`ulcompress decompress`: .ulc files to images."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from ulcompress.coding.bitstream import BitstreamError, parse
from ulcompress.commands.batch import FileAction, each_file, read, write
from ulcompress.commands.options import (
    Verbs,
    add_codec,
    add_devices,
    add_inputs,
    add_limit,
    add_sampling,
    load_codec,
    natural,
)
from ulcompress.commands.targets import jobs_of
from ulcompress.functional.folders import find_files
from ulcompress.pretrained import find, load
from ulcompress.records import Sampling

if TYPE_CHECKING:
    from torch import Tensor

    from ulcompress.codec import Codec


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("decompress", help=".ulc files to images")
    add_inputs(parser, ".ulc files and folders of them")
    add_codec(parser, default=None)
    add_sampling(parser)
    add_limit(parser)
    parser.add_argument(
        "--prefix",
        action="store_true",
        help="take each file for the beginning of one, which can end anywhere after the header; its check is not made",
    )
    add_devices(parser)
    parser.add_argument("--seed", type=natural, help="seed of the noise, if the codec has none (default: the file's)")
    parser.add_argument(
        "--quality", type=int, metavar="N", help="write a lossy .jpg or .webp; 100 is the best (default: lossless)"
    )
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Write an image for each .ulc file; return the exit status."""
    _ = Sampling.of(options)  # raises for what no codec takes
    jobs = jobs_of(options, partial(find_files, suffixes={".ulc"}, kind=".ulc file"), ".png")
    for target in {job.target.suffix: job.target for job in jobs}.values():
        _check_format(target, options.quality)
    return each_file(jobs, options, decoder) if jobs else 0


def decoder(options: argparse.Namespace) -> FileAction:
    """Return the function that decodes one file to an image."""
    sampling, codec_of = Sampling.of(options), _codecs(options)

    def one(source: Path, target: Path) -> str:
        data = read(source)
        codec = codec_of(data)
        start = time.perf_counter()
        image = codec.decompress(data, sampling=sampling, max_pixels=options.max_pixels, prefix=options.prefix)
        seconds = time.perf_counter() - start
        write(target, _encoded(image, target, options.quality))
        return f"{source} -> {target}: {image.shape[2]} x {image.shape[1]}, {seconds:.2f} s"

    return one


def _codecs(options: argparse.Namespace) -> Callable[[bytes], Codec]:
    """Return the function from a file's bytes to its codec: the one of the options, else that which the file names."""
    if options.codec is not None:
        codec = load_codec(options)
        return lambda data: codec
    loaded = lru_cache(maxsize=1)(partial(load, device=options.device, trust=options.trust))

    return lambda data: loaded(directory_of(data, max_pixels=options.max_pixels, prefix=options.prefix))


def directory_of(data: bytes, *, max_pixels: int, prefix: bool = False) -> Path:
    """Return the directory of the codec that a file names; BitstreamError where it is not on this machine."""
    header, _ = parse(data, max_pixels=max_pixels, prefix=prefix)
    fingerprint = header.fingerprint.hex()
    directory = find(fingerprint)
    if directory is None:
        raise BitstreamError(
            f"the file needs the codec {fingerprint}, which is neither bundled nor imported; name it with --codec"
        )
    return directory


def _check_format(target: Path, quality: int | None) -> None:
    """Raise ValueError before any work for a format that cannot be written, by encoding a single pixel."""
    import torch

    try:
        _encoded(torch.zeros(3, 1, 1), target, quality)
    except ValueError as error:
        raise ValueError(f"{target}: {error}") from error


def _encoded(image: Tensor, target: Path, quality: int | None) -> bytes:
    """Return the image file for a target; PNG for a device or a pipe."""
    from ulcompress.images import image_bytes

    return image_bytes(image, target.suffix or ".png", quality=quality)
