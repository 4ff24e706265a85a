"""PerCo's hyper-encoder: the latent of the diffusion to features on a coarser grid."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ulcompress.encoders.base import Encoder
from ulcompress.part import loadable


@loadable()
class HyperEncoder(Encoder):
    """Analyses a latent with residual bottlenecks and two attention blocks.

        latent ─► conv ──────────────────┐
        image ─► space to depth ─► conv ─┴► 3 bottlenecks ─► conv ─► 3 bottlenecks ─► attention
                                                                                          │
        features ◄─ attention ◄─ 1x1 ◄─ 3 bottlenecks ◄─ conv ◄───────────────────────────┘

    With `pixels` the image is added. The last of the three convolutions in a row are 5x5 with stride 2, as many
    as the stride needs; the others are 1x1.
    Source: the layer list that the authors of PerCo gave to PerCo (SD), arXiv 2409.20255; without normalisation.
    """

    def __init__(
        self,
        *,
        stride: int = 16,
        channels: int = 320,
        width: int = 192,
        latent_channels: int = 4,
        latent_stride: int = 8,
        pixels: bool = False,
    ):
        """Build the network with random weights.

        Args:
            stride: Pixels a feature position: 1, 2, 4 or 8 times `latent_stride`.
            channels: Channels of the features.
            width: Channels of the hidden layers.
            latent_channels: Channels of the autoencoder's latent.
            latent_stride: Stride of the autoencoder.
            pixels: Look at the image too. PerCo's encoder does not; the latent of a small autoencoder has lost more.

        Raises:
            ValueError: The stride cannot be reached.
        """
        super().__init__()
        possible = [latent_stride * 2**n for n in range(4)]
        if stride not in possible:
            raise ValueError(f"stride must be one of {possible} over a latent of stride {latent_stride}, got {stride}")
        self.stride = stride
        self.channels = channels
        self.latent_channels = latent_channels
        self.latent_stride: int = latent_stride
        halvings = int(math.log2(stride // latent_stride))
        self.pixels = _convolution(3 * latent_stride**2, width, halve=halvings > 2) if pixels else None
        self.layers = nn.Sequential(
            _convolution(latent_channels, width, halve=halvings > 2),
            *(Bottleneck(width) for _ in range(3)),
            _convolution(width, width, halve=halvings > 1),
            *(Bottleneck(width) for _ in range(3)),
            AttentionBlock(width),
            _convolution(width, width, halve=halvings > 0),
            *(Bottleneck(width) for _ in range(3)),
            nn.Conv2d(width, channels, 1),
            AttentionBlock(channels),
        )

    def forward(self, image: Tensor, latent: Tensor) -> Tensor:
        """Map a latent, (B, C, h, w), to features; RGB in [0, 1], (B, 3, H, W), is looked at with `pixels` alone."""
        x = self.layers[0](latent)
        if self.pixels is not None:
            x = x + self.pixels(F.pixel_unshuffle(2 * image - 1, self.latent_stride))
        return self.layers[1:](x)


class Bottleneck(nn.Module):
    """Residual block 1x1, 3x3, 1x1 at half the width, on (B, C, h, w)."""

    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.layers = nn.Sequential(
            nn.Conv2d(channels, half, 1),
            nn.ReLU(),
            nn.Conv2d(half, half, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(half, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's output to its input."""
        return x + self.layers(x)


class AttentionBlock(nn.Module):
    """Residual branch under a sigmoid mask, on (B, C, h, w).

    Source: Cheng et al., Learned Image Compression with Discretized Gaussian Mixture Likelihoods and Attention
    Modules, CVPR 2020, the simplified attention module of section 3.3. CompressAI's `AttentionBlock` is the same
    function (a test); importing CompressAI takes seconds, which each run of the bundled codec would wait for.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.branch = nn.Sequential(*(_unit(channels) for _ in range(3)))
        self.mask = nn.Sequential(*(_unit(channels) for _ in range(3)), nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Add the masked branch."""
        return x + self.branch(x) * torch.sigmoid(self.mask(x))


def _unit(channels: int) -> nn.Module:
    return nn.Sequential(Bottleneck(channels), nn.ReLU())


def _convolution(channels_in: int, channels_out: int, *, halve: bool) -> nn.Module:
    if halve:
        return nn.Conv2d(channels_in, channels_out, 5, stride=2, padding=2)
    return nn.Conv2d(channels_in, channels_out, 1)
