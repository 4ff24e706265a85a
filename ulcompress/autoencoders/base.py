"""The contract of an autoencoder: pixels to and from the space in which the diffusion works."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from ulcompress.part import Part


class Autoencoder(Part, ABC):
    """Maps images to latents and back."""

    stride: int
    """Pixels a latent position, along each side."""
    channels: int
    """Channels of the latent."""
    cache: Callable[[Any, Tensor], Tensor] | None = None
    """Returns latents of images in place of `encode`; a training sets it where the autoencoder does not change."""

    def latent(self, image: Tensor) -> Tensor:
        """Return what `encode` does, from the cache where there is one."""
        return self.encode(image) if self.cache is None else self.cache(self, image)

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """Map RGB in [0, 1], (B, 3, H, W), to the latent of about unit variance, (B, C, H/stride, W/stride).

        Deterministic: the mode of the posterior. H and W are multiples of the stride.
        """

    @abstractmethod
    def decode(self, latent: Tensor) -> Tensor:
        """Map a latent, (B, C, h, w), to RGB, (B, 3, h*stride, w*stride), not clamped."""

    def stages(self) -> tuple[Sequence[nn.Module], Sequence[nn.Module]]:
        """Return the layers of the encoder, from the image on, and of the decoder, from the latent on.

        A student of the same layers can learn them one by one. Empty where a class does not name them.
        """
        return (), ()
