"""`ulcompress learn-captions`: let a codec code captions by contexts that are learnt from a text file."""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ulcompress.commands.options import Verbs, add_trust, load_codec
from ulcompress.commands.streams import report

if TYPE_CHECKING:
    from ulcompress.codec import Codec


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("learn-captions", help="learn from a text file how a codec codes captions")
    parser.add_argument("codec", help="bundled name, directory, hub:... or wandb:...")
    parser.add_argument("text", type=Path, metavar="TEXT", help="captions, one a line, UTF-8")
    parser.add_argument(
        "--background", type=Path, metavar="TEXT", help="general text of the language, for words that captions lack"
    )
    parser.add_argument("--out", type=Path, required=True, help="directory for the codec with what was learnt")
    parser.add_argument("--measure", type=Path, metavar="TEXT", help="other captions, whose bytes are told")
    add_trust(parser)
    parser.add_argument("--force", action="store_true", help="overwrite an existing codec")
    parser.set_defaults(action=run, device="cpu")


def run(options: argparse.Namespace) -> int:
    """Write the codec; return the exit status."""
    from ulcompress.captioning.coding import with_learnt_captions
    from ulcompress.pretrained import locate, save

    if (options.out / "config.yaml").exists() and not options.force:
        raise ValueError(f"{options.out} holds a codec; use --force to overwrite it")
    texts = _lines(options.text)
    background = _lines(options.background) if options.background else []
    measured = _lines(options.measure) if options.measure else []
    codec = load_codec(options)
    learnt = with_learnt_captions(codec, texts, background)
    origin = f"learnt from {len(texts)} captions of {options.text.name}"
    if background:
        origin += f", with {options.background.name} as the background"
    card = locate(options.codec) / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else f"# A codec of ulcompress, after {options.codec}\n"
    save(learnt, options.out, card=f"{text.rstrip()}\n\nCaptions: {origin}.\n")
    report(f"{options.codec} -> {options.out}: captions {origin}")
    if measured:
        report(f"bytes a caption of {options.measure}: {_sizes(codec, learnt, measured)}")
    return 0


def _lines(path: Path) -> list[str]:
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    if not lines:
        raise ValueError(f"{path} has no captions")
    return lines


def _sizes(before: Codec, after: Codec, texts: Sequence[str]) -> str:
    """Return the mean bytes of captions as they are and in each way to code them."""
    from ulcompress.captioning.coding import caption_bytes, deflated_bytes

    means = {
        "none": sum(len(text.encode()) for text in texts) / len(texts),
        "zlib": sum(len(zlib.compress(text.encode(), 9)) for text in texts) / len(texts),
        "deflate": sum(map(deflated_bytes, texts)) / len(texts),
        "before": caption_bytes(before, texts),
        "learnt": caption_bytes(after, texts),
    }
    return ", ".join(f"{name} {mean:.2f} ({mean / means['zlib']:.1%} of zlib)" for name, mean in means.items())
