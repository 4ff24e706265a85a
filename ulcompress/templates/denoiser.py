"""A denoiser: the network of a diffusion."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ulcompress.denoisers import Denoiser
from ulcompress.part import loadable
from ulcompress.records import Condition


@loadable()
class Template(Denoiser):
    """A few convolutions over x_t and the features; the noise level scales hidden channels."""

    requires = frozenset({"spatial"})

    def __init__(self, *, channels: int = 16, spatial_channels: int = 32, width: int = 32):
        """Build the network.

        Args:
            channels: Channels of the target.
            spatial_channels: Channels of the features.
            width: Hidden channels.
        """
        super().__init__()
        self.channels = channels
        self.condition_channels = {"spatial": spatial_channels}
        self.prepare_map = nn.Conv2d(spatial_channels, width, 3, padding=1)
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.scale = nn.Linear(1, width)
        self.leave = nn.Conv2d(width, channels, 3, padding=1)

    def context(self, condition: Condition) -> Sequence[Tensor]:
        """Return what all steps share: the features, on the grid of the target."""
        return (self.prepare_map(condition.spatial),)

    def forward(self, noisy: Tensor, times: Tensor, condition: Condition, context: Sequence[Tensor]) -> Tensor:
        """Predict from x_t, (B, C, h, w), at times of 0 to 999, (B,)."""
        scale = self.scale(times[:, None].to(noisy) / 1000)[..., None, None]
        hidden = torch.nn.functional.silu((1 + scale) * (self.enter(noisy) + context[0]))
        return self.leave(hidden)
