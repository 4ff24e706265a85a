"""Other people's codecs at the same number of bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from PIL import Image

from ulcompress.evaluation.measuring.timing import timed
from ulcompress.evaluation.metrics import psnr
from ulcompress.functional.division import ceil_div
from ulcompress.images import from_pil, to_rgb

FACTORS = (2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Divisors of an image's sides, tried where the full size fits the budget at a poor quality only, or at none."""


class Anchor(ABC):
    """A codec that ours are compared with."""

    name: str
    """For tables and file suffixes, such as `avif`."""
    qualities: Sequence[Any]
    """Quality settings in the order of the files' sizes, the smallest first."""
    reach: int = 0
    """How many qualities above one whose file exceeds the budget may still give a file within it."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that decides a file beside image and quality, as plain data."""
        return {}

    def check(self) -> None:  # noqa: B027, most need nothing
        """Raise ValueError, in one line with the remedy, where the anchor cannot be used on this machine."""

    def prepare(self, quality: Any) -> None:  # noqa: B027, most need nothing
        """Load what a quality needs, so that it is no part of the time for an image."""

    @abstractmethod
    def encode(self, image: Image.Image, quality: Any) -> bytes:
        """Return the file of an RGB image."""

    @abstractmethod
    def decode(self, data: bytes) -> Image.Image:
        """Return the RGB image of a file."""


@dataclass(frozen=True)
class Match:
    """An image coded by an anchor within a budget."""

    anchor: str
    """Its name."""
    quality: Any
    """The anchor's quality setting."""
    data: bytes
    """The file."""
    restored: Image.Image
    """The decoded file, in the size of the original."""
    factor: int
    """The divisor of each side before coding; 1 is full size."""
    fits: bool
    """Whether the file is within the budget; false only where no setting is."""
    smallest: int | None
    """Bytes of the smallest file at full size, where that is above the budget; else None."""
    encode_seconds: float
    """Wall-clock time of this one coding, the search for the quality not counted."""
    decode_seconds: float

    @property
    def label(self) -> str:
        """Name, quality and factor for a caption."""
        scale = f" at 1/{self.factor} size" if self.factor > 1 else ""
        return f"{self.anchor.upper()} q{self.quality}{scale}{'' if self.fits else ', over budget'}"


def match(anchor: Anchor, image: Image.Image, budget_bytes: int) -> Match:
    """Code an image with the highest quality, found by bisection, whose file is not above a budget.

    Where that is in the lower half of the anchor's qualities, or none fits, the image is also reduced with Lanczos
    before and enlarged after, by each of `FACTORS`, and what gives the best PSNR of all that fits is taken. Where
    nothing fits, the smallest file found is returned, marked by `fits`. Colour profiles and metadata are left out. No
    quality is coded twice at one size. Where sizes fall at some step of the quality, those beyond the end of the
    bisection are tried too, as far as the anchor's `reach`.
    """
    image = to_rgb(image)
    bare = Image.frombytes("RGB", image.size, image.tobytes())
    full = _within(anchor, bare, budget_bytes, 1)
    if full.fits and 2 * anchor.qualities.index(full.quality) >= len(anchor.qualities):
        return full
    sizes = [factor for factor in FACTORS if factor < 2 * max(bare.size)]
    found = [full, *(_within(anchor, bare, budget_bytes, factor) for factor in sizes)]
    if fitting := [one for one in found if one.fits]:
        original = from_pil(bare)
        best = max(fitting, key=lambda one: psnr(from_pil(one.restored), original))
    else:
        best = min(found, key=lambda one: len(one.data))
    return replace(best, smallest=full.smallest)


def _within(anchor: Anchor, image: Image.Image, budget: int, factor: int) -> Match:
    width, height = image.size
    small = image
    if factor > 1:
        small = image.resize((ceil_div(width, factor), ceil_div(height, factor)), Image.Resampling.LANCZOS)

    @cache
    def code(quality: Any) -> tuple[bytes, float]:
        anchor.prepare(quality)
        return timed(lambda: anchor.encode(small, quality))

    quality = _highest(lambda quality: len(code(quality)[0]), anchor.qualities, budget, anchor.reach)
    data, encode_seconds = code(quality)
    shown, decode_seconds = timed(lambda: _enlarged(anchor.decode(data), image.size))
    fits = len(data) <= budget
    smallest = None if fits else len(data)
    return Match(anchor.name, quality, data, shown, factor, fits, smallest, encode_seconds, decode_seconds)


def _highest(size: Callable[[Any], int], qualities: Sequence[Any], budget: int, reach: int) -> Any:
    """Return the highest quality whose size is not above the budget, the lowest one where there is none."""
    if size(qualities[0]) > budget:
        return qualities[0]
    # The bisection ends at a quality that is too large, right above one that fits, even where sizes are not monotone.
    end = bisect_right(qualities, budget, lo=1, key=size)
    beyond = reversed(qualities[end + 1 : end + 1 + reach])
    return next((quality for quality in beyond if size(quality) <= budget), qualities[end - 1])


def _enlarged(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    image = image.convert("RGB")
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
