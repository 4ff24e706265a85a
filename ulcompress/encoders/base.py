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
    latent_channels: int | None = None
    """Channels of the latent that it expects; None takes any."""
    latent_stride: int | None = None
    """Pixels a latent position, along each side, that it expects; None takes any."""

    @abstractmethod
    def forward(self, image: Tensor, latent: Tensor) -> Tensor:
        """Map (B, 3, H, W) in [0, 1] and its latent (B, C, h, w) to features (B, channels, H/stride, W/stride)."""
