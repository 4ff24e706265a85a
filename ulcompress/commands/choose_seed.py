"""`ulcompress choose-seed`: store the seed whose noise restores reference images best in a codec."""

from __future__ import annotations

import argparse
from pathlib import Path

from ulcompress.commands.options import Verbs, add_limit, add_sampling, add_trust, load_codec
from ulcompress.commands.streams import report
from ulcompress.records import Sampling


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("choose-seed", help="store in a codec the seed that restores reference images best")
    parser.add_argument("codec", help="bundled name, directory, hub:... or wandb:...")
    parser.add_argument("inputs", nargs="+", type=Path, metavar="IMAGE", help="images and folders of images")
    parser.add_argument("--candidates", type=int, default=16, help="seeds to try, from 0 (default: 16)")
    parser.add_argument("--squeezenet", metavar="FILE", help="its weights, to compare features, not squared errors")
    parser.add_argument("--out", type=Path, required=True, help="directory for the codec with the seed")
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    add_trust(parser)
    parser.add_argument("--force", action="store_true", help="overwrite an existing codec")
    add_sampling(parser)
    add_limit(parser)
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Write the codec with the best seed; return the exit status."""
    from torch.nn.functional import mse_loss

    from ulcompress.evaluation import choose_seed, with_seed
    from ulcompress.images import find_images, read_image
    from ulcompress.losses import FeatureDistance
    from ulcompress.pretrained import locate, save

    if (options.out / "config.yaml").exists() and not options.force:
        raise ValueError(f"{options.out} holds a codec; use --force to overwrite it")
    images = [read_image(path, max_pixels=options.max_pixels) for path in find_images(options.inputs)]
    distance = FeatureDistance(weights=options.squeezenet) if options.squeezenet else mse_loss
    codec = load_codec(options)
    use = {"sampling": Sampling.of(options), "max_pixels": options.max_pixels}
    seed = choose_seed(codec, images, range(options.candidates), distance, **use)
    choice = f"seed {seed}, chosen of {options.candidates} by the {getattr(distance, 'name', 'squared error')} "
    choice += f"of {len(images)} images"
    card = locate(options.codec) / "README.md"
    text = card.read_text() if card.is_file() else f"# A codec of ulcompress, after {options.codec}\n"
    save(with_seed(codec, seed), options.out, card=f"{text.rstrip()}\n\nNoise: {choice}.\n")
    report(f"{options.codec} -> {options.out}: {choice}")
    return 0
