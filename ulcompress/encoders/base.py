"""The contract of an encoder: image or latent to the features that are quantised."""

from abc import ABC, abstractmethod

from torch import Tensor

from ulcompress.part import Part


class Encoder(Part, ABC):
    """Maps an image and its latent to features."""

    stride: int
    """Pixels a feature position, along each side."""
    channels: int
    """Channels of the features."""

    @abstractmethod
    def forward(self, image: Tensor, latent: Tensor) -> Tensor:
        """Map (B, 3, H, W) in [0, 1] and its latent (B, C, h, w) to features (B, channels, H/stride, W/stride)."""
