"""The network that summarises a whole image in one vector, its syntax."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ulcompress.conditioning.summary import Summary, with_base
from ulcompress.part import loadable

SLOPE = 0.2
"""Slope of the rectifiers below zero."""
SPREAD = 5.0
"""Initial gain of the last layer. Averages over whole photographs differ little: without a gain all photographs would
have the same symbols at the start of training."""


@loadable()
class SyntaxGenerator(Summary):
    """Summarises an image, and its difference from the base reconstruction, in one vector.

        image ─┐
        base  ─┴─► 5x5, half size ─► 3x3, half size ─► 3x3, half size ─► ...
                                          │                 │             │
                                       average           average       average
                                          └─────────────────┴─────────────┴──► concatenate ─► linear ─► vector

    Averages over the whole image give one vector for an image of any size. Sources: CGDM (Kuang et al., ACM MM 2024),
    whose generator takes image and reconstruction; Wang et al., Neural Data-Dependent Transform for Learned Image
    Compression, CVPR 2022, which averages at several scales.
    """

    def __init__(self, *, dimension: int = 64, width: int = 32, stages: int = 5, sees_base: bool = True):
        """Build the network with random weights.

        Args:
            dimension: Dimension of the vector.
            width: Channels of the first convolution; they double twice.
            stages: Number of scales that are averaged, each half the one before, the first a quarter of the image's.
            sees_base: Whether the base reconstruction is an input as well; False for a codec without one.

        Raises:
            ValueError: `stages` is less than three, or `dimension` less than one.
        """
        super().__init__()
        if dimension < 1 or stages < 3:
            raise ValueError(f"got dimension={dimension} and stages={stages}; give at least 1 and 3")
        self.dimension = dimension
        self.sees_base = sees_base
        widths = [width * min(2**stage, 4) for stage in range(stages + 1)]
        self.stem = _halving(6 if sees_base else 3, widths[0], 5)
        self.stages = nn.ModuleList(_halving(widths[n], widths[n + 1], 3) for n in range(stages))
        self.head = nn.Linear(sum(widths[1:]), dimension)
        nn.init.normal_(self.head.weight, std=SPREAD * self.head.in_features**-0.5)
        nn.init.zeros_(self.head.bias)

    @classmethod
    def nominal_dimension(cls, arguments: Mapping[str, Any]) -> int:
        """Return the argument `dimension`."""
        return arguments["dimension"]

    def forward(self, image: Tensor, base: Tensor | None = None) -> Tensor:
        """Map images in [0, 1], (B, 3, H, W) of any size, to real values, (B, dimension).

        Raises:
            ValueError: `sees_base` is set, but there is no base.
        """
        seen = torch.cat(with_base(image, base), 1) if self.sees_base else image
        hidden = self.stem(2 * seen - 1)
        averages = []
        for stage in self.stages:
            hidden = stage(hidden)
            averages.append(hidden.mean((2, 3)))
        return self.head(torch.cat(averages, 1))


def _halving(channels_in: int, channels_out: int, kernel: int) -> nn.Module:
    """Return a convolution to half the size, initialised to keep the variance of its input."""
    convolution = nn.Conv2d(channels_in, channels_out, kernel, stride=2, padding=kernel // 2)
    nn.init.kaiming_normal_(convolution.weight, a=SLOPE)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return nn.Sequential(convolution, nn.LeakyReLU(SLOPE))
