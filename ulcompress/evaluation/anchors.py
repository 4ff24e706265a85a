"""Classical codecs at the same number of bytes, through Pillow."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

from PIL import Image

from ulcompress.evaluation.measurement import timed
from ulcompress.evaluation.metrics import psnr
from ulcompress.images import from_pil, to_rgb

FORMATS = {
    "JPEG": (range(1, 96), {"optimize": True}),
    "WebP": (range(0, 101), {"method": 6}),
    "AVIF": (range(0, 101), {"speed": 4}),
}
"""Qualities and settings of each format: those that make small files in bearable time."""
FACTORS = (2, 3, 4, 6, 8, 12, 16, 24, 32)
"""By which an image may be reduced where its lowest quality is still too large."""


@dataclass(frozen=True)
class Anchor:
    """An image coded by a classical codec."""

    format: str
    """Key of `FORMATS`."""
    quality: int
    """The format's own quality setting."""
    data: bytes
    """The file."""
    image: Image.Image
    """What the file shows, in the original size."""
    scale: float
    """Size in which the image was coded, along each side; 1 is full size."""
    fits: bool
    """Whether the file is within the budget; false only where no setting is."""
    encode_seconds: float
    """Wall-clock time of this one coding, the search for the quality not counted."""
    decode_seconds: float

    @property
    def label(self) -> str:
        """Format, quality and scale for a caption."""
        scale = f" at 1/{round(1 / self.scale)} size" if self.scale < 1 else ""
        return f"{self.format} q{self.quality}{scale}{'' if self.fits else ', over budget'}"


def encode_to(image: Image.Image, format: str, budget_bytes: int) -> Anchor:
    """Code an image with the highest quality, found by bisection, whose file is not above a budget.

    Where even the lowest quality is, the image is reduced with Lanczos before and enlarged after, by the factor of
    those in `FACTORS` that gives the best PSNR. Where nothing fits, the smallest file found is returned, marked by
    `fits`. Colour profiles and metadata are left out. ValueError for a format that cannot be written.
    """
    if format not in FORMATS:
        raise ValueError(f"got the format {format!r}; give one of {', '.join(FORMATS)}")
    Image.init()
    if format.upper() not in Image.SAVE:
        raise ValueError(f"this Pillow cannot write {format}; install its wheel, `pip install pillow`")
    image = to_rgb(image)
    bare = Image.frombytes("RGB", image.size, image.tobytes())
    full = _within(bare, format, budget_bytes, 1)
    if full.fits:
        return full
    reduced = [_within(bare, format, budget_bytes, factor) for factor in FACTORS]
    if fitting := [anchor for anchor in reduced if anchor.fits]:
        original = from_pil(bare)
        return max(fitting, key=lambda anchor: psnr(from_pil(anchor.image), original))
    return min([full, *reduced], key=lambda anchor: len(anchor.data))


def _within(image: Image.Image, format: str, budget: int, factor: int) -> Anchor:
    width, height = image.size
    small = image
    if factor > 1:
        small = image.resize((-(-width // factor), -(-height // factor)), Image.Resampling.LANCZOS)
    qualities = FORMATS[format][0]
    code = cache(partial(_timed_code, small, format))
    quality = _highest(lambda quality: len(code(quality)[0]), qualities, budget)
    data, encode_seconds = code(quality)
    shown, decode_seconds = timed(partial(_show, data, image.size))
    fits = len(data) <= budget
    return Anchor(format, quality, data, shown, 1 / factor, fits, encode_seconds, decode_seconds)


def _highest(size: Callable[[int], int], qualities: range, budget: int) -> int:
    """Return the highest quality whose size is not above the budget, the lowest one where there is none."""
    if size(qualities[0]) > budget:
        return qualities[0]
    # The bisection ends right above a quality that it has tried, so that one fits even where sizes are not monotone.
    return qualities[bisect_right(qualities, budget, lo=1, key=size) - 1]


def _timed_code(image: Image.Image, format: str, quality: int) -> tuple[bytes, float]:
    file = io.BytesIO()
    _, seconds = timed(lambda: image.save(file, format, quality=quality, **FORMATS[format][1]))
    return file.getvalue(), seconds


def _show(data: bytes, size: tuple[int, int]) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        shown = image.convert("RGB")
    return shown if shown.size == size else shown.resize(size, Image.Resampling.LANCZOS)
