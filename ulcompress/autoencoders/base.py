"""The contract of an autoencoder: pixels to and from the space in which the diffusion works."""

from abc import ABC, abstractmethod

from torch import Tensor

from ulcompress.part import Part


class Autoencoder(Part, ABC):
    """Maps images to latents and back."""

    stride: int
    """Pixels a latent position, along each side."""
    channels: int
    """Channels of the latent."""

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """Map RGB in [0, 1], (B, 3, H, W), to the latent of about unit variance, (B, C, H/stride, W/stride).

        Deterministic: the mode of the posterior. H and W are multiples of the stride.
        """

    @abstractmethod
    def decode(self, latent: Tensor) -> Tensor:
        """Map a latent, (B, C, h, w), to RGB, (B, 3, h*stride, w*stride), not clamped."""
