"""What one image costs, and what it is worth, measured on a file that was written and read back."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress
from torch import Tensor

from ulcompress.codec import Codec
from ulcompress.evaluation.metrics import ms_ssim, psnr
from ulcompress.images import from_pil, read_image, to_pil, write_image
from ulcompress.records import Code

Refine = Callable[[Codec, Tensor, Code], Code]
"""Searches a better code of an image, RGB (3, H, W), than the one that is given."""
T = TypeVar("T")


@dataclass(frozen=True)
class Measurement:
    """One image through one codec."""

    image: str
    """Name of the image file, without its folder."""
    height: int
    """In pixels."""
    width: int
    bytes: int
    """Size of the compressed file."""
    bpp: float
    """Bits a pixel: eight times `bytes` by `height * width`."""
    psnr: float
    """In dB, of the restored image rounded to 8 bits; infinite for equal images."""
    ms_ssim: float
    """Likewise, at most 1; NaN for an image with a side below 176 pixels."""
    encode_seconds: float
    """Wall-clock time from pixels to bytes."""
    decode_seconds: float
    """Wall-clock time from bytes to pixels."""

    @classmethod
    def compare(
        cls,
        image: str,
        restored: Tensor,
        original: Tensor,
        *,
        size: int,
        encode_seconds: float,
        decode_seconds: float,
    ) -> Measurement:
        """Measure a restored image against its original, RGB (3, H, W) in [0, 1], for a file of `size` bytes."""
        height, width = original.shape[1:]
        rounded = from_pil(to_pil(restored))
        fidelity = psnr(rounded, original), ms_ssim(rounded, original)
        return cls(image, height, width, size, 8 * size / (height * width), *fidelity, encode_seconds, decode_seconds)


def measure(
    codec: Codec,
    path: str | Path,
    *,
    caption: str | None = None,
    without: Collection[str] = (),
    refine: Refine | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    keep: Path | None = None,
) -> Measurement:
    """Compress an image to a file on disk, read it back, restore it, and measure both.

    Args:
        codec: Ready for use, as `ulcompress.load` returns it.
        path: The image.
        caption: What it shows, for codecs with text.
        without: Names of conditioners whose side information is not sent.
        refine: Searches a better code; part of the encoding, and of its time.
        steps: Of the sampler; None takes the decoder's default.
        guidance: Scale of the guidance on text; None takes the decoder's default.
        keep: A folder that gets `<stem>.ulc` and `<stem>_restored.png`; None leaves no files behind.

    Raises:
        ImageError: The image cannot be read.
        ValueError: The codec refuses image or caption.
    """
    path = Path(path)
    original = read_image(path)
    _ = codec.fingerprint  # computed once for all images, so it is no part of the time for this one
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
    with nullcontext(keep) if keep else TemporaryDirectory() as folder:
        file = Path(folder) / f"{path.stem}.ulc"
        data, encode_seconds = timed(lambda: _encode(codec, original, caption, without, refine))
        file.write_bytes(data)
        data, size = file.read_bytes(), file.stat().st_size
        restored, decode_seconds = timed(lambda: codec.decompress(data, steps=steps, guidance=guidance))
    if keep:
        write_image(restored, keep / f"{path.stem}_restored.png")
    return Measurement.compare(
        path.name, restored, original, size=size, encode_seconds=encode_seconds, decode_seconds=decode_seconds
    )


def measure_all(
    codec: Codec,
    paths: Sequence[Path],
    *,
    captions: Mapping[Path, str] | None = None,
    without: Collection[str] = (),
    refine: Refine | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    keep: Path | None = None,
) -> list[Measurement]:
    """Measure images one by one under a progress bar; images that cannot be read are named and left out.

    `captions` are by path; the other arguments are those of `measure`. ValueError when two images would keep their
    files under one name.
    """
    twice = [stem for stem, count in Counter(Path(path).stem for path in paths).items() if count > 1]
    if keep and twice:
        raise ValueError(f"got more than one image named {twice[0]!r}, whose files would overwrite each other; rename")
    captions = captions or {}
    measured: list[Measurement] = []
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        for path in progress.track(paths, description="Measuring"):
            try:
                measured.append(
                    measure(
                        codec,
                        path,
                        caption=captions.get(path),
                        without=without,
                        refine=refine,
                        steps=steps,
                        guidance=guidance,
                        keep=keep,
                    )
                )
            except ValueError as error:  # of the image, or of the codec about it
                progress.console.print(f"[yellow]left out[/yellow] {escape(str(error))}", soft_wrap=True)
    return measured


def _encode(codec: Codec, image: Tensor, caption: str | None, without: Collection[str], refine: Refine | None) -> bytes:
    code = codec.encode(image, caption, without=without)
    return codec.write(code if refine is None else refine(codec, image, code))


def timed(function: Callable[[], T]) -> tuple[T, float]:
    """Call a function; return its result and the wall-clock seconds that it took."""
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start
