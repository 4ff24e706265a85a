"""Features of two encoders side by side."""

import torch
from torch import Tensor

from ulcompress.encoders.base import Encoder
from ulcompress.part import loadable


@loadable()
class ConcatenatedEncoder(Encoder):
    """Gives the channels of one encoder and then those of another, which are multiplied by a factor.

    A quantiser that measures distances shares its bits out by variance. So with a factor above 1 a residual quantiser
    first codes what the second encoder tells, and the first encoder's features where they are then the larger error.
    """

    def __init__(self, *, first: Encoder, second: Encoder, factor: float = 1.0):
        """Take two encoders of one stride.

        Raises:
            ValueError: Their strides differ, they expect different latents, or the factor is not positive.
        """
        super().__init__()
        if first.stride != second.stride:
            raise ValueError(f"both encoders must have one stride, got {first.stride} and {second.stride}")
        if factor <= 0:
            raise ValueError(f"the factor must be positive, got {factor}")
        self.first = first
        self.second = second
        self.factor = factor
        self.stride = first.stride
        self.channels = first.channels + second.channels
        self.latent_channels = _common(first.latent_channels, second.latent_channels)
        self.latent_stride = _common(first.latent_stride, second.latent_stride)

    def forward(self, image: Tensor, latent: Tensor) -> Tensor:
        """Map RGB in [0, 1], (B, 3, H, W), and its latent to features, (B, C, H/stride, W/stride)."""
        return torch.cat([self.first(image, latent), self.factor * self.second(image, latent)], 1)


def _common(first: int | None, second: int | None) -> int | None:
    """Return what both expect of a latent; None takes any."""
    if None not in (first, second) and first != second:
        raise ValueError(f"both encoders must expect one latent, got channels or strides of {first} and {second}")
    return second if first is None else first
