"""Diffusion on the pixels themselves."""

from torch import Tensor

from ulcompress.autoencoders.base import Autoencoder
from ulcompress.part import loadable


@loadable()
class PixelSpace(Autoencoder):
    """Uses the image itself, scaled to [-1, 1], as the latent."""

    stride = 1
    channels = 3

    def encode(self, image: Tensor) -> Tensor:
        """Map RGB in [0, 1], (B, 3, H, W), to [-1, 1]."""
        return 2 * image - 1

    def decode(self, latent: Tensor) -> Tensor:
        """Map (B, 3, H, W) to RGB, not clamped."""
        return latent / 2 + 0.5
