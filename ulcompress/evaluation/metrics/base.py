"""What a metric is: a number for a pair of images, or for a set of pairs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Pair:
    """An image and what a codec made of it."""

    original: Tensor
    """RGB in [0, 1], (3, H, W)."""
    restored: Tensor
    """Likewise, rounded to 8 bits."""
    caption: str | None = None
    """The caption of the original."""


class Metric(ABC):
    """A number for the quality of restored images, with the protocol by which it was found."""

    name: str
    """Key in results: `psnr`, `fid-256-half-shift`."""
    label: str
    """For tables and axes: `PSNR (dB)`."""
    protocol: str
    """Library, network, sizes, what is compared with what: all that others need to find the same number."""
    better: str
    """`higher` or `lower`."""
    scope: str
    """`image` or `set`: what the number is of."""
    files: Mapping[str, str]
    """Name of each file of weights that was used, to its SHA-256."""
    batched: bool = False
    """Whether pairs go through a network together in `batch`, which moves the last digits of their numbers."""


class PairMetric(Metric):
    """A number for every image; that of a set is the mean."""

    scope = "image"

    @abstractmethod
    def __call__(self, pair: Pair) -> float:
        """Return the number; NaN where it is not defined for this image."""

    def batch(self, pairs: Sequence[Pair]) -> list[float]:
        """Return the number of each of several pairs, all of one size."""
        return [self(pair) for pair in pairs]


class SetMetric(Metric):
    """A number for a set of images, found from what was kept of each."""

    scope = "set"

    @abstractmethod
    def points(self, pair: Pair) -> dict[str, np.ndarray]:
        """Return what has to be kept of one pair, arrays by name; without rows where the image is too small."""

    def batch(self, pairs: Sequence[Pair]) -> list[dict[str, np.ndarray]]:
        """Return the points of each of several pairs, all of one size."""
        return [self.points(pair) for pair in pairs]

    @abstractmethod
    def compute(self, points: Sequence[Mapping[str, np.ndarray]]) -> float:
        """Return the number of a set, given the points of its images; NaN where they are too few."""


def stacked(pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    """Return the restored images and the originals of pairs of one size, (B, 3, H, W) each."""
    return torch.stack([pair.restored for pair in pairs]), torch.stack([pair.original for pair in pairs])
