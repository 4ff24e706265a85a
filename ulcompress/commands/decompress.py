"""`ulcompress decompress`: .ulc files to images."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ulcompress.commands.batch import each_file, find_files, targets_of
from ulcompress.commands.options import Verbs, add_inputs, add_limit, add_sampling, load_codec, natural


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("decompress", help=".ulc files to PNG images")
    add_inputs(parser, ".ulc files and folders of them")
    add_sampling(parser)
    add_limit(parser)
    parser.add_argument("--seed", type=natural, help="of the noise, if the codec has none (default: the file's)")
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Write an image for each .ulc file; return the exit status."""
    from ulcompress.images import write_image

    sources = find_files(options.inputs)
    targets = targets_of(options, sources, ".png")
    codec = load_codec(options)

    def one(source: Path, target: Path) -> str:
        start = time.perf_counter()
        image = codec.decompress(
            source.read_bytes(),
            seed=options.seed,
            steps=options.steps,
            guidance=options.guidance,
            max_pixels=options.max_pixels,
        )
        seconds = time.perf_counter() - start
        write_image(image, target)
        return f"{source} -> {target}: {image.shape[2]} x {image.shape[1]}, {seconds:.2f} s"

    return each_file(sources, targets, one)
