"""Options and arguments that several verbs share."""

from __future__ import annotations

import argparse
import math
from typing import TypeAlias

from ulcompress.coding.bitstream import bytes_at
from ulcompress.commands.targets import source_path
from ulcompress.functional.limits import MAX_PIXELS

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""The subparsers to which a verb adds its parser."""


def add_inputs(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the input files, the output, and the treatment of existing files."""
    parser.add_argument(
        "inputs", nargs="+", type=source_path, metavar="INPUT", help=f"{what}; - for one from standard input"
    )
    parser.add_argument(
        "-o",
        "--output",
        help="file; folder, which keeps the tree below each input; - for standard output (default: beside the input)",
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--force", action="store_true", help="overwrite existing files")
    existing.add_argument("--skip-existing", action="store_true", help="keep existing files and write the others")


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add the packages whose code a codec may run."""
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="package whose parts the codec may use beside those of ulcompress; it is imported",
    )


def add_codec(parser: argparse.ArgumentParser, default: str | None = "mini") -> None:
    """Add the codec, its device, and the packages whose code it may run; None is the codec that a file names."""
    add_trust(parser)
    shown = default or "the bundled or imported one that the file names"
    parser.add_argument(
        "--codec",
        default=default,
        help=f"name of `ulcompress models`, directory, hub:... or wandb:... (default: {shown})",
    )
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")


def add_devices(parser: argparse.ArgumentParser) -> None:
    """Add the processes among which images are shared, and their threads."""
    parser.add_argument(
        "--devices",
        type=positive,
        default=1,
        metavar="N",
        help="processes that share the images; with --device cuda each has a GPU (default: 1)",
    )
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="torch's threads per process (default: cores / processes)"
    )


def add_rate(parser: argparse.ArgumentParser) -> None:
    """Add the rate, for codecs with several."""
    parser.add_argument(
        "--rate", type=positive, metavar="N", help="rate of a codec with several; 1 is the lowest (default: highest)"
    )


def add_budget(parser: argparse.ArgumentParser) -> None:
    """Add the size of the files."""
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--max-bytes", type=positive, metavar="N", help="size of each file; smaller only if all is sent (default: any)"
    )
    size.add_argument("--bpp", type=finite, metavar="X", help="the same in bits per pixel of each image")


def max_bytes_of(options: argparse.Namespace, width: int, height: int) -> int | None:
    """Return the budget of an image in bytes; None where the options set none."""
    return options.max_bytes if options.bpp is None else bytes_at(options.bpp, width, height)


def add_coding(parser: argparse.ArgumentParser) -> None:
    """Add the options of an encoder."""
    add_rate(parser)
    parser.add_argument(
        "--without", nargs="+", action="extend", default=[], metavar="NAME", help="streams to leave out: syntax, text"
    )
    search = parser.add_argument_group("search for a better code of each image; Ctrl-C ends it with the best so far")
    search.add_argument("--online", type=positive, metavar="STEPS", help="steps of gradient descent")
    search.add_argument(
        "--online-variables",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="variables to optimise: syntax, features (default: syntax if sent, else features)",
    )
    search.add_argument(
        "--online-perceptual", metavar="FILE", help="SqueezeNet's weights, to add its feature distance to the measure"
    )


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Add the options of a sampler."""
    parser.add_argument("--steps", type=int, help="sampling steps; 0: the base alone (default: the codec's)")
    parser.add_argument("--guidance", type=finite, help="guidance scale of the text (default: the codec's)")
    parser.add_argument(
        "--noise-scale", type=finite, metavar="S", help="deviation of the initial noise; 0: none (default: the codec's)"
    )
    parser.add_argument(
        "--start", type=finite, metavar="T", help="share of the process at which sampling starts (default: the codec's)"
    )
    parser.add_argument("--sampler", metavar="NAME", help="ddim, heun or dpm-solver (default: the codec's)")


def add_limit(parser: argparse.ArgumentParser) -> None:
    """Add the limit on the size of images, which a file of a few bytes could make very large."""
    parser.add_argument(
        "--max-pixels",
        type=positive,
        default=MAX_PIXELS,
        metavar="N",
        help=f"most pixels of an image; memory and time grow with them (default: {MAX_PIXELS})",
    )


def finite(text: str) -> float:
    """Parse a finite number."""
    if not math.isfinite(value := float(text)):
        raise argparse.ArgumentTypeError(f"must be finite, got {text}")
    return value


def positive(text: str) -> int:
    """Parse an integer of at least 1."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def natural(text: str) -> int:
    """Parse an integer of 0 to 2**64 - 1."""
    if not 0 <= (value := int(text)) < 2**64:
        raise argparse.ArgumentTypeError(f"must be 0 to 2**64 - 1, got {text}")
    return value


def load_codec(options: argparse.Namespace, *, encoder_only: bool = False):
    """Load the codec that the options name."""
    from ulcompress.pretrained import load

    return load(options.codec, device=options.device, encoder_only=encoder_only, trust=options.trust)


def check_search(options: argparse.Namespace, searched: bool) -> None:
    """Raise ValueError for options of a search without a search."""
    if not searched and (options.online_variables or options.online_perceptual):
        raise ValueError("--online-variables and --online-perceptual go with --online STEPS; give that as well")
