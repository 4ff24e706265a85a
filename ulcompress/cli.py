"""The command line: the codec's verbs here, Lightning's verbs in `ulcompress.training.cli`.

Nothing heavy is imported before it is needed: `ulcompress --help` and `ulcompress info` answer without torch.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ulcompress import __version__

if TYPE_CHECKING:
    from PIL import Image

LIGHTNING_VERBS = ("fit", "validate", "test")


def main() -> None:
    """Run the command line of the process and exit: 0 when all went well, 1 with one line on standard error."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command line without the program's name; return the exit status.

    `--traceback` anywhere shows where an error came from instead of one line.
    """
    if "--traceback" in arguments:
        return _run([word for word in arguments if word != "--traceback"], lambda action: action() or 0)
    return _run(arguments, _one_line)


def _run(arguments: Sequence[str], guard: Callable[[Callable[[], int | None]], int]) -> int:
    if arguments and arguments[0] in LIGHTNING_VERBS:
        from ulcompress.training.cli import main as train

        return guard(lambda: train(list(arguments)))
    options = _parser().parse_args(arguments)
    return guard(lambda: options.action(options))


def _one_line(action: Callable[[], int | None]) -> int:
    """Turn the errors that users can mend into one line; others keep their traceback."""
    try:
        return action() or 0
    except KeyboardInterrupt:
        print("ulcompress: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"ulcompress: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ulcompress",
        description="Perceptual image compression at ultra-low bitrates.",
        epilog="Training: ulcompress fit|validate|test -c EXPERIMENT.yaml [--model.... --data.... --trainer....]; "
        "see ulcompress fit --help. --traceback shows where an error came from.",
    )
    parser.add_argument("--version", action="version", version=f"ulcompress {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    compress = verbs.add_parser("compress", help="images to .ulc files")
    _inputs(compress, "images and folders of images")
    text = compress.add_argument_group("caption, from at most one of")
    text.add_argument("--caption", help="what the image shows (one image)")
    text.add_argument("--captions", action="store_true", help="first line of <name>.txt beside each image, where it is")
    text.add_argument(
        "--captioner",
        nargs="?",
        const="",
        metavar="MODEL",
        help="let BLIP-2 caption (hub id, directory); give it after the images",
    )
    _coding(compress)
    compress.set_defaults(action=_compress)

    decompress = verbs.add_parser("decompress", help=".ulc files to PNG images")
    _inputs(decompress, ".ulc files and folders of them")
    _sampling(decompress)
    decompress.add_argument("--seed", type=_natural, help="of the noise, if the codec has none (default: the file's)")
    decompress.set_defaults(action=_decompress)

    info = verbs.add_parser("info", help="what a .ulc file holds, or the nominal bits of an experiment")
    info.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".ulc files, or an experiment's YAML files")
    info.add_argument("--codec", help="codec directory, where it is not a bundled one")
    info.set_defaults(action=_info)

    caption = verbs.add_parser("caption", help="BLIP-2 captions of images, for training and for compress --captions")
    caption.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="images and folders of images")
    caption.add_argument("--out", type=Path, help="one file of JSON lines (default: <name>.txt beside each image)")
    caption.add_argument("--model", default="", help="hub id or directory of a BLIP-2 (default: opt-2.7b-coco)")
    caption.add_argument("--revision", help="of the model on the hub")
    caption.add_argument("--dtype", default="float32", help="float32, float16 or bfloat16 (default: float32)")
    caption.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    caption.add_argument("--batch-size", type=int, default=8, help="images at once (default: 8)")
    caption.add_argument("--force", action="store_true", help="make captions anew that are there")
    caption.set_defaults(action=_caption)

    evaluate = verbs.add_parser("evaluate", help="compare codecs on images, from real files")
    evaluate.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="images and folders of images")
    evaluate.add_argument(
        "--codec",
        action="append",
        metavar="CODEC",
        help="bundled name, directory or hub:org/name, or CURVE=CODEC,CODEC; again for more (default: mini)",
    )
    evaluate.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    evaluate.add_argument(
        "--setting",
        action="append",
        default=[],
        metavar="KEY=VALUE,...",
        help="steps, guidance, rate, online, without; again for more points of every codec's curve",
    )
    evaluate.add_argument("--anchor", action="append", default=[], metavar="NAME", help="jpeg, webp, avif, jxl, ...")
    evaluate.add_argument("--reference", metavar="CURVE", help="of Bjøntegaard deltas (default: the first anchor)")
    evaluate.add_argument(
        "--metrics", nargs="+", action="extend", metavar="NAME", help="default: psnr ms-ssim; all for all"
    )
    evaluate.add_argument("--weights", type=Path, metavar="DIR", help="folder with files of the metrics' weights")
    _coding(evaluate)
    _sampling(evaluate)
    evaluate.add_argument("--captions", action="store_true", help="first line of <name>.txt beside each image")
    evaluate.add_argument("--out", type=Path, help="folder of the results; what is there already is not done again")
    evaluate.add_argument("--keep", action="store_true", help="keep compressed files and restored images there")
    evaluate.add_argument("--devices", type=_positive, default=1, metavar="N", help="processes that share the images")
    evaluate.add_argument(
        "--threads", type=_positive, metavar="N", help="of torch in every process (default: cores by processes)"
    )
    evaluate.add_argument(
        "--batch", type=_positive, default=1, metavar="N", help="images of one size in a metric's network (default: 1)"
    )
    evaluate.add_argument("--dataset", metavar="NAME", help="whose published points are shown (default: recognised)")
    evaluate.set_defaults(action=_evaluate)

    choose = verbs.add_parser("choose-seed", help="give a codec the noise that restores reference images best")
    choose.add_argument("codec", help="bundled name, directory or hub:org/name")
    choose.add_argument("inputs", nargs="+", type=Path, metavar="IMAGE", help="images and folders of images")
    choose.add_argument("--candidates", type=int, default=16, help="seeds to try, from 0 (default: 16)")
    choose.add_argument("--squeezenet", metavar="FILE", help="compare by its features, not by squared errors")
    choose.add_argument("--out", type=Path, required=True, help="directory of the codec with the seed")
    choose.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    choose.add_argument("--force", action="store_true", help="overwrite an existing codec")
    choose.set_defaults(action=_choose_seed)

    demo = verbs.add_parser("demo", help="compress a photograph and draw it beside AVIF and JPEG")
    demo.add_argument("image", nargs="?", type=Path, help="default: scikit-image's photograph `coffee`")
    _codec(demo, "mini-cgdm")
    demo.add_argument("--caption", help="what the image shows")
    _rate(demo)
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder for the results (default: demo)")
    demo.set_defaults(action=_demo)

    export = verbs.add_parser("export", help="a training checkpoint to a codec directory")
    export.add_argument("checkpoint", type=Path)
    export.add_argument("directory", type=Path)
    export.add_argument("--card", type=Path, help="model card to put into the directory as README.md")
    export.add_argument("--last", action="store_true", help="weights of the last step, not their moving average")
    export.add_argument("--force", action="store_true", help="overwrite an existing codec")
    export.set_defaults(action=_export)
    return parser


def _inputs(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help=what)
    parser.add_argument("-o", "--output", type=Path, help="file, or folder for several (default: beside the input)")
    parser.add_argument("--force", action="store_true", help="overwrite existing files")
    _codec(parser)


def _codec(parser: argparse.ArgumentParser, default: str = "mini") -> None:
    parser.add_argument(
        "--codec", default=default, help=f"bundled name, directory or hub:org/name (default: {default})"
    )
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")


def _rate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rate", type=_positive, metavar="N", help="of a codec with several, 1 the lowest (default: highest)"
    )


def _coding(parser: argparse.ArgumentParser) -> None:
    _rate(parser)
    parser.add_argument(
        "--without", nargs="+", action="extend", default=[], metavar="NAME", help="streams to leave out: syntax, text"
    )
    search = parser.add_argument_group("search for a better code of each image; Ctrl-C ends it with the best so far")
    search.add_argument("--online", type=_positive, metavar="STEPS", help="steps of gradient descent")
    search.add_argument(
        "--online-variables",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="syntax, features (default: syntax if sent, or features)",
    )
    search.add_argument(
        "--online-perceptual", metavar="FILE", help="SqueezeNet's weights, to search by its features too"
    )


def _sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, help="of the sampler; 0: the base alone (default: the codec's)")
    parser.add_argument("--guidance", type=_finite, help="scale of the guidance on text (default: the codec's)")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise argparse.ArgumentTypeError(f"must be finite, got {text}")
    return value


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def _natural(text: str) -> int:
    if not 0 <= (value := int(text)) < 2**64:
        raise argparse.ArgumentTypeError(f"must be 0 to 2**64 - 1, got {text}")
    return value


def _targets(options: argparse.Namespace, sources: list[Path], suffix: str) -> list[Path]:
    """Name the output of every input, and refuse before any work is done what would overwrite a file."""
    output: Path | None = options.output
    if output is None:
        targets = [source.with_suffix(suffix) for source in sources]
    elif output.is_dir() or len(sources) > 1 or options.inputs[0].is_dir() or not output.suffix:
        targets = [output / f"{source.stem}{suffix}" for source in sources]
    else:
        targets = [output]
    if len(set(targets)) < len(targets):
        twice = next(target for target in targets if targets.count(target) > 1)
        raise ValueError(f"two inputs would both be written to {twice}; rename one or run them apart")
    existing = [target for target in targets if target.exists()]
    if existing and not options.force:
        raise ValueError(f"{existing[0]} exists; use --force to overwrite, or -o to write elsewhere")
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
    return targets


def _compress(options: argparse.Namespace) -> int:
    from ulcompress.files import write_whole
    from ulcompress.images import find_images, from_pil, open_image

    chosen = [name for name in ("caption", "captions", "captioner") if getattr(options, name) not in (None, False)]
    if len(chosen) > 1:
        raise ValueError(f"got --{' and --'.join(chosen)}; give one of them")
    sources = find_images(options.inputs)
    if options.caption and len(sources) > 1:
        raise ValueError(f"--caption goes with one image, got {len(sources)}; use --captions or --captioner")
    targets = _targets(options, sources, ".ulc")
    optimizer = _optimizer(options)
    codec = _load(options, encoder_only=optimizer is None)
    describe = _describer(options)

    def one(source: Path, target: Path) -> str:
        image = open_image(source)
        caption = describe(source, image)
        start = time.perf_counter()
        code, said = codec.encode(image, caption, rate=options.rate, without=options.without), ""
        if optimizer is not None:
            from ulcompress.optimization import refine_visibly

            code, best = refine_visibly(optimizer, codec, from_pil(image), code, steps=options.online, name=str(source))
            said = f", measure {best[0]:.4f} -> {best[-1]:.4f} in {len(best) - 1} steps" if best else ""
        data = codec.write(code)
        seconds = time.perf_counter() - start
        write_whole(target, data)
        bpp = 8 * len(data) / (image.width * image.height)
        said += f", {caption!r}" if caption else ""
        return f"{source} -> {target}: {len(data)} bytes, {bpp:.4f} bpp, {seconds:.2f} s{said}"

    return _each(sources, targets, one)


def _optimizer(options: argparse.Namespace):
    """Return what searches better codes, or None where no search was asked for."""
    _check_search(options, options.online is not None)
    if options.online is None:
        return None
    from ulcompress.losses import FeatureDistance
    from ulcompress.optimization import OnlineOptimizer

    perceptual = FeatureDistance(weights=options.online_perceptual) if options.online_perceptual else None
    return OnlineOptimizer(variables=options.online_variables, perceptual=perceptual)


def _check_search(options: argparse.Namespace, searched: bool) -> None:
    """Refuse options of a search that is not asked for."""
    if not searched and (options.online_variables or options.online_perceptual):
        raise ValueError("--online-variables and --online-perceptual go with --online STEPS; give that as well")


def _describer(options: argparse.Namespace) -> Callable[[Path, Image.Image], str | None]:
    """Return what gives an image its caption: the user, a file beside it, BLIP-2, or nobody."""
    from ulcompress.captions import first_caption

    if options.captions:
        return lambda source, _: first_caption(source)
    if options.captioner is None:
        return lambda _, __: options.caption
    from ulcompress.conditioning.captioner import DEFAULT, BlipCaptioner

    captioner = BlipCaptioner(model=options.captioner or DEFAULT, device=options.device)
    return lambda _, image: captioner.caption([image])[0]


def _caption(options: argparse.Namespace) -> int:
    from ulcompress.captions import BesideImages, CaptionFile, caption_images
    from ulcompress.conditioning.captioner import DEFAULT, BlipCaptioner
    from ulcompress.images import find_images

    images = find_images(options.inputs)
    store = (
        CaptionFile(options.out, [path for path in options.inputs if path.is_dir()]) if options.out else BesideImages()
    )
    captioner = BlipCaptioner(
        model=options.model or DEFAULT, revision=options.revision, dtype=options.dtype, device=options.device
    )
    result = caption_images(captioner, images, store, batch_size=options.batch_size, force=options.force)
    print(f"{result.made} captions made, {result.kept} were there, {len(result.unreadable)} images unreadable")
    return 1 if result.unreadable else 0


def _decompress(options: argparse.Namespace) -> int:
    from ulcompress.images import write_image

    sources = _find_files(options.inputs)
    targets = _targets(options, sources, ".png")
    codec = _load(options)

    def one(source: Path, target: Path) -> str:
        start = time.perf_counter()
        image = codec.decompress(source.read_bytes(), seed=options.seed, steps=options.steps, guidance=options.guidance)
        seconds = time.perf_counter() - start
        write_image(image, target)
        return f"{source} -> {target}: {image.shape[2]} x {image.shape[1]}, {seconds:.2f} s"

    return _each(sources, targets, one)


def _each(sources: list[Path], targets: list[Path], one: Callable[[Path, Path], str]) -> int:
    """Go through the files; a bad one is reported and does not stop the others."""
    failures = 0
    for source, target in zip(sources, targets, strict=True):
        try:
            print(one(source, target), flush=True)
        except (ValueError, OSError) as error:
            failures += 1
            message = " ".join(str(error).split())
            print(f"ulcompress: {message if str(source) in message else f'{source}: {message}'}", file=sys.stderr)
    return 1 if failures else 0


def _find_files(inputs: list[Path]) -> list[Path]:
    files = []
    for path in inputs:
        if not path.exists():
            raise ValueError(f"no file or folder {path}")
        found = sorted(path.rglob("*.ulc")) if path.is_dir() else [path]
        if not found:
            raise ValueError(f"no .ulc files in {path}")
        files += found
    return files


def _load(options: argparse.Namespace, *, encoder_only: bool = False):
    from ulcompress.pretrained import load

    return load(options.codec, device=options.device, encoder_only=encoder_only)


def _info(options: argparse.Namespace) -> int:
    from ulcompress.inspection import describe

    def one(source: Path, _: Path) -> str:
        return describe(source, options.codec)

    for file in options.files:
        if not file.is_file():
            raise ValueError(f"no file {file}")
    if options.files[0].suffix in (".yaml", ".yml"):
        from ulcompress.nominal import describe_experiment

        print(describe_experiment(options.files))
        return 0
    return _each(options.files, options.files, one)


def _evaluate(options: argparse.Namespace) -> int:
    if options.keep and options.out is None:
        raise ValueError("--keep needs a folder to keep files in; give --out")
    if options.out is None and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError("torchrun needs a folder that its processes share; give --out")
    with nullcontext(options.out) if options.out is not None else TemporaryDirectory() as out:
        return _evaluate_to(options, Path(out))


def _evaluate_to(options: argparse.Namespace, out: Path) -> int:
    from ulcompress.evaluation.results import gather, summary_markdown, write_results
    from ulcompress.evaluation.run import is_first, run

    plan = _plan(options, out)
    outcomes = run(plan)
    if not is_first():
        return 0
    command = shlex.join(["ulcompress", *sys.argv[1:]])
    results = gather(plan, outcomes, command=command)
    print(summary_markdown(results))
    if options.out is not None:
        print("\n".join(map(str, write_results(results, out))))
    return 1 if any(outcome.error for outcome in outcomes) else 0


def _plan(options: argparse.Namespace, out: Path):
    """Turn the options of `evaluate` into what is to be done."""
    from ulcompress.evaluation.contestants import Setting
    from ulcompress.evaluation.metrics import FIDELITY
    from ulcompress.evaluation.plan import Curve, Plan, name_images
    from ulcompress.images import find_images

    common = Setting(
        steps=options.steps,
        guidance=options.guidance,
        rate=options.rate,
        online=options.online,
        without=tuple(options.without),
    )
    settings = [common | Setting.parse(text) for text in options.setting] or [common]
    _check_search(options, any(setting.online for setting in settings))
    images = name_images(find_images(options.inputs))
    return Plan(
        images=images,
        curves=tuple(Curve.parse(text) for text in options.codec or ["mini"]),
        out=out,
        captions=_captions_beside(images) if options.captions else {},
        settings=tuple(settings),
        anchors=tuple(options.anchor),
        metrics=tuple(options.metrics or FIDELITY),
        weights=options.weights,
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


def _captions_beside(images: Mapping[str, Path]) -> dict[str, str]:
    from ulcompress.captions import first_caption

    captions = {name: caption for name, path in images.items() if (caption := first_caption(path))}
    if not captions:
        path = next(iter(images.values()))
        text = path.with_suffix(".txt")
        raise ValueError(f"no caption for {path} or any other; write one to {text}, or leave out --captions")
    return captions


def _choose_seed(options: argparse.Namespace) -> int:
    from torch.nn.functional import mse_loss

    from ulcompress.evaluation import choose_seed, with_seed
    from ulcompress.images import find_images, read_image
    from ulcompress.losses import FeatureDistance
    from ulcompress.pretrained import locate

    if (options.out / "config.yaml").exists() and not options.force:
        raise ValueError(f"{options.out} holds a codec; use --force to overwrite it")
    images = [read_image(path) for path in find_images(options.inputs)]
    distance = FeatureDistance(weights=options.squeezenet) if options.squeezenet else mse_loss
    codec = _load(options)
    seed = choose_seed(codec, images, range(options.candidates), distance)
    told = f"seed {seed}, chosen of {options.candidates} by the {getattr(distance, 'name', 'squared error')} "
    told += f"of {len(images)} images"
    card = locate(options.codec) / "README.md"
    text = card.read_text() if card.is_file() else f"# A codec of ulcompress, after {options.codec}\n"
    with_seed(codec, seed).save(options.out, card=f"{text.rstrip()}\n\nNoise: {told}.\n")
    print(f"{options.codec} -> {options.out}: {told}")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from ulcompress.evaluation import demo

    for path in demo(_load(options), options.image, options.out, options.caption, options.rate):
        print(path)
    return 0


def _export(options: argparse.Namespace) -> int:
    from ulcompress.pretrained import export

    if (options.directory / "config.yaml").exists() and not options.force:
        raise ValueError(f"{options.directory} holds a codec; use --force to overwrite it")
    card = options.card.read_text() if options.card else ""
    export(options.checkpoint, options.directory, card=card, averaged=not options.last)
    print(f"{options.checkpoint} -> {options.directory}")
    return 0
