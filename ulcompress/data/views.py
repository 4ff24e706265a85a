"""Which part of an image a crop shows."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import numpy as np


class View(NamedTuple):
    """A square of an image, mirrored or not, with one of its captions."""

    top: int
    left: int
    side: int
    """Rows and columns of the square in the image, before it is enlarged to the crop."""
    mirrored: bool
    caption: str | None


def random_view(
    size: tuple[int, int], captions: list[str], crop: int, *, zoom: float, rng: np.random.Generator
) -> View:
    """Draw a square of an image of `size`, (H, W), for a crop of that side; the image is padded to `least_side`."""
    smaller = min(size)
    side = crop if zoom == 1 else min(max(1, round(crop / rng.uniform(max(1, crop / smaller), zoom))), smaller)
    top, left = (int(rng.integers(length - side + 1)) for length in size)
    mirrored = bool(rng.random() < 0.5)
    return View(top, left, side, mirrored, captions[int(rng.integers(len(captions)))] if captions else None)


def central_view(size: tuple[int, int], captions: list[str], crop: int) -> View:
    """Return the square in the middle of an image of `size`, (H, W), and its first caption."""
    top, left = ((length - crop) // 2 for length in size)
    return View(top, left, crop, False, captions[0] if captions else None)


def least_side(crop: int, zoom: float) -> int:
    """Return the rows and columns to which an image is padded before a crop is drawn from it."""
    return ceil(crop / zoom)
