"""A latent of cosine coefficients, and a network that restores what they leave out."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ulcompress.autoencoders.base import Autoencoder
from ulcompress.autoencoders.convolutional_decoder import ConvolutionalDecoder
from ulcompress.diffusion import BoundaryControl
from ulcompress.functional.cosine_transform import cosine_basis
from ulcompress.part import loadable

TILE, OVERLAP = 128, 16
"""Latent positions: a larger latent is decoded in overlapping tiles, so that memory stays bounded."""


@loadable()
class CosineAutoencoder(Autoencoder):
    """Takes the lowest cosine frequencies of blocks as the latent, each at unit variance.

        image ─► cosine transform, lowest frequencies ─► normalise ─► latent
        image ◄─(+)◄─ inverse transform ◄───────────── denormalise ◄─┤
                 ▲                                                   │
                 └─ depth to space ◄─ network of latent diffusion ◄──┘

    There is nothing to train for an encoder, and what is decoded is the inverse transform until the network has learnt
    better: small codecs that are trained for hours spend these on what a linear transform cannot do.
    """

    def __init__(self, *, stride: int = 8, channels: int = 16, widths: Sequence[int] = (32, 96, 128), layers: int = 1):
        """Build the transform, and the network with random weights whose output is zero.

        Args:
            stride: Side of the blocks in pixels.
            channels: Channels of the latent: how many coefficients of a block are kept, the most used by images first.
            widths: Channels of the network's levels, finest first; each but the last halves the resolution.
            layers: Residual blocks a level, less one.

        Raises:
            ValueError: The widths cannot be used, or the blocks have fewer coefficients.
        """
        super().__init__()
        self.stride = stride
        self.channels = channels
        self.patch_size = stride >> (len(widths) - 1)
        if self.patch_size << (len(widths) - 1) != stride or any(width % 8 for width in widths):
            raise ValueError(
                f"the stride must be a multiple of {1 << (len(widths) - 1)} for {len(widths)} widths, and these of 8; "
                f"got {stride} and {list(widths)}"
            )
        self.functions: Tensor
        self.deviations: Tensor
        functions, deviations = cosine_basis(stride, channels)
        self.register_buffer("functions", functions)
        self.register_buffer("deviations", deviations)
        self.network = ConvolutionalDecoder(
            in_channels=channels, out_channels=3 * self.patch_size**2, widths=widths, layers=layers
        )
        self._tiles = BoundaryControl(patch=TILE, overlap=OVERLAP)
        nn.init.zeros_(self.network.conv_out.weight)
        assert self.network.conv_out.bias is not None
        nn.init.zeros_(self.network.conv_out.bias)

    def encode(self, image: Tensor) -> Tensor:
        """Map RGB in [0, 1], (B, 3, H, W), to the latent, (B, C, H/stride, W/stride)."""
        with torch.autocast(image.device.type, enabled=False):
            coefficients = F.conv2d(image.float() - 0.5, self.functions, stride=self.stride)
        return coefficients / self.deviations[:, None, None]

    def decode(self, latent: Tensor) -> Tensor:
        """Map a latent, (B, C, h, w), to RGB, (B, 3, h*stride, w*stride), not clamped."""
        with torch.autocast(latent.device.type, enabled=False):
            coefficients = latent.float() * self.deviations[:, None, None]
            linear = F.conv_transpose2d(coefficients, self.functions, stride=self.stride)
        learnt = self._tiles.merge(lambda rows, columns: self._learnt(latent[..., rows, columns]), *latent.shape[-2:])
        return linear + 0.5 + F.pixel_shuffle(learnt, self.stride)

    def _learnt(self, latent: Tensor) -> Tensor:
        """Return what the network adds, the pixels of each position as channels, (B, 3 * stride^2, h, w)."""
        patches = self.network(latent).float()
        return F.pixel_unshuffle(F.pixel_shuffle(patches, self.patch_size), self.stride)
