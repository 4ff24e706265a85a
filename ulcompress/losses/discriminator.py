"""The contract of a discriminator."""

from abc import ABC, abstractmethod

from torch import Tensor

from ulcompress.part import Part

SLOPE = 0.2
"""Slope of the leaky ReLUs below zero."""


class Discriminator(Part, ABC):
    """A network that distinguishes restored images from originals, position by position."""

    @abstractmethod
    def forward(self, images: Tensor) -> list[Tensor]:
        """Map RGB in [0, 1], (B, 3, H, W), to maps of logits, (B, 1, h, w) each; the higher, the more original."""
