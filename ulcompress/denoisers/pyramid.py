"""Features of an image at every level of resolution."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ulcompress.denoisers.residual_block import ResidualBlock


class Pyramid(nn.Module):
    """The downward path of a U-Net in pixel space.

        image ─► patches to channels ─► blocks ─┬─► 3x3, stride 2 ─► blocks ─┬─► ...
                                                ▼                            ▼
                                             level 0                      level 1

    The first step is a convolution over squares of pixels that do not overlap, as in the Vision Transformer
    (Dosovitskiy et al., ICLR 2021, section 3.1), so that no layer works at full resolution.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        *,
        patch_size: int,
        blocks: int,
        time_channels: int | None = None,
    ):
        """Build levels of `widths` channels, finest first, with `blocks` residual blocks each."""
        super().__init__()
        patches = nn.Conv2d(channels, widths[0], patch_size, stride=patch_size)
        halvings = [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in itertools.pairwise(widths)]
        self.reductions = nn.ModuleList([patches, *halvings])
        self.levels = nn.ModuleList(
            nn.ModuleList(ResidualBlock(width, time_channels=time_channels) for _ in range(blocks)) for width in widths
        )

    def forward(self, image: Tensor, time: Tensor | None = None) -> list[Tensor]:
        """Map (B, C, H, W) and, if built for it, the time's embedding to features, (B, width, h, w), finest first."""
        # The norm over channels is ten times faster in this format, which convolutions keep.
        x = image.contiguous(memory_format=torch.channels_last)
        features = []
        for reduction, level in zip(self.reductions, self.levels, strict=True):
            x = reduction(x)
            for block in level:  # pyright: ignore[reportGeneralTypeIssues]
                x = block(x, time)
            features.append(x)
        return features
