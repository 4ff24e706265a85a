"""`ulcompress evaluate`: codecs compared on images, from real files."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ulcompress.commands.options import (
    Verbs,
    add_budget,
    add_coding,
    add_devices,
    add_limit,
    add_sampling,
    add_trust,
    check_search,
    positive,
)
from ulcompress.functional.lines import printable

if TYPE_CHECKING:
    from ulcompress.evaluation.measuring.contestants import Setting


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("evaluate", help="compare codecs on images, from real files")
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="images and folders of images")
    parser.add_argument(
        "--codec",
        action="append",
        metavar="CODEC",
        help="bundled name, directory, hub:... or wandb:..., or CURVE=CODEC,CODEC; repeat for more (default: mini)",
    )
    add_trust(parser)
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    parser.add_argument(
        "--setting",
        action="append",
        default=[],
        metavar="[CODEC:]KEY=VALUE,...",
        help="steps, guidance, noise_scale, start, sampler, rate, max_bytes, bpp, online, without; repeat for more "
        "points of every codec's curve, or of that of one codec or curve that is named",
    )
    parser.add_argument("--anchor", action="append", default=[], metavar="NAME", help="jpeg, webp, avif, jxl, ...")
    parser.add_argument(
        "--reference",
        metavar="NAME",
        help="curve or point to which all others are compared, curves by Bjøntegaard differences (default: the first "
        "anchor, or else codec)",
    )
    parser.add_argument(
        "--metrics", nargs="+", action="extend", metavar="NAME", help="metrics, or all (default: psnr ms-ssim)"
    )
    parser.add_argument("--weights", type=Path, metavar="DIR", help="folder of the metrics' weights")
    parser.add_argument(
        "--trust-networks", action="store_true", help="read .pt2 files of --weights, which can hold code that runs"
    )
    add_budget(parser)
    add_coding(parser)
    add_sampling(parser)
    add_limit(parser)
    parser.add_argument("--captions", action="store_true", help="first line of <name>.txt beside each image")
    parser.add_argument("--out", type=Path, help="folder of the results; existing measurements are not repeated")
    parser.add_argument("--keep", action="store_true", help="keep compressed files and restored images in --out")
    parser.add_argument(
        "--embed",
        type=positive,
        metavar="PIXELS",
        help="put the images that --keep keeps into the page itself, as WebP of at most so many pixels across",
    )
    add_devices(parser)
    parser.add_argument(
        "--batch", type=positive, default=1, metavar="N", help="images of one size per call of a metric (default: 1)"
    )
    parser.add_argument(
        "--dataset", metavar="NAME", help="dataset whose published points are shown (default: recognised)"
    )
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Measure, print the table, and write the results to `--out` if set; return the exit status."""
    if options.keep and options.out is None:
        raise ValueError("--keep needs a folder to keep files in; give --out")
    if options.embed and not options.keep:
        raise ValueError("--embed shows the images that are kept; give --keep")
    if options.out is None and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError("torchrun needs a folder that its processes share; give --out")
    with nullcontext(options.out) if options.out is not None else TemporaryDirectory() as out:
        return _evaluate_to(options, Path(out))


def _evaluate_to(options: argparse.Namespace, out: Path) -> int:
    from ulcompress.evaluation.measuring.run import is_first, prepare
    from ulcompress.evaluation.measuring.run import run as measure
    from ulcompress.evaluation.results.results import gather, write_results
    from ulcompress.evaluation.results.summary import summary_markdown

    evaluation = prepare(_plan(options, out))
    outcomes = measure(evaluation)
    if not is_first():
        return 0
    command = shlex.join(["ulcompress", *sys.argv[1:]])
    results = gather(evaluation, outcomes, command=command)
    written = write_results(results, out, embed=options.embed) if options.out is not None else []
    print(summary_markdown(results), *(printable(str(path)) for path in written), sep="\n")
    return 1 if any(outcome.error for outcome in outcomes) else 0


def _plan(options: argparse.Namespace, out: Path):
    """Turn the options of `evaluate` into a plan."""
    from ulcompress.evaluation.measuring.contestants import Setting
    from ulcompress.evaluation.measuring.plan import Curve, Plan, name_images
    from ulcompress.evaluation.metrics import FIDELITY
    from ulcompress.images import find_images

    common = Setting(
        steps=options.steps,
        guidance=options.guidance,
        noise_scale=options.noise_scale,
        start=options.start,
        sampler=options.sampler,
        rate=options.rate,
        max_bytes=options.max_bytes,
        bpp=options.bpp,
        online=options.online,
        without=tuple(options.without),
    )
    everywhere, named = _settings(options.setting, common)
    check_search(options, any(setting.online for setting in [common, *everywhere, *chain(*named.values())]))
    images = name_images(find_images(options.inputs))
    return Plan(
        images=images,
        curves=tuple(Curve.parse(text) for text in options.codec or ["mini"]),
        out=out,
        captions=_captions_beside(images) if options.captions else {},
        settings=tuple(everywhere) or (common,),
        codec_settings={name: (*everywhere, *settings) for name, settings in named.items()},
        anchors=tuple(options.anchor),
        metrics=tuple(options.metrics or FIDELITY),
        weights=options.weights,
        trust=tuple(options.trust),
        trust_networks=options.trust_networks,
        max_pixels=options.max_pixels,
        device=options.device,
        processes=options.devices,
        threads=options.threads,
        batch=options.batch,
        reference=options.reference,
        dataset=options.dataset,
        keep=options.keep,
        online_variables=tuple(options.online_variables) if options.online_variables else None,
        online_perceptual=options.online_perceptual,
    )


def _settings(texts: Sequence[str], common: Setting) -> tuple[list[Setting], dict[str, list[Setting]]]:
    """Return settings of all codecs, and of those that are named; each has what is common where it chooses nothing."""
    from ulcompress.evaluation.measuring.contestants import Setting

    everywhere, named = [], {}
    for text in texts:
        name, _, setting = text.rpartition(":")
        (named.setdefault(name, []) if name else everywhere).append(common | Setting.parse(setting))
    return everywhere, named


def _captions_beside(images: Mapping[str, Path]) -> dict[str, str]:
    from ulcompress.captioning.captions import first_caption

    captions = {name: caption for name, path in images.items() if (caption := first_caption(path))}
    if not captions:
        path = next(iter(images.values()))
        text = path.with_suffix(".txt")
        raise ValueError(f"no caption for {path} or any other; write one to {text}, or leave out --captions")
    return captions
