"""Features that are blocks of the latent before training."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ulcompress.encoders.base import Encoder
from ulcompress.functional.cosine_transform import block_basis
from ulcompress.part import loadable


@loadable()
class BlockEncoder(Encoder):
    """Adds the output of a network to the cosine coefficients of the latent's blocks.

        latent ─► cosine transform of blocks ─────────┐
        image, latent ─► network ─► gains ───────────(+)─► features

    A block has the positions of one feature; its coefficients, lowest frequencies first, are as many as its numbers, so
    nothing is lost. The gains are zero at first (Bachlechner et al., ReZero is All You Need, UAI 2021), so training
    starts from vectors that are as far from one another as the latents.
    """

    def __init__(self, *, network: Encoder):
        """Take the network, whose stride is that of the features; ValueError where its channels are not a block's."""
        super().__init__()
        if network.latent_channels is None or network.latent_stride is None:
            raise ValueError("the network of a BlockEncoder must state the channels and the stride of its latent")
        self.network = network
        self.stride = network.stride
        self.channels = network.channels
        self.latent_channels, self.latent_stride = network.latent_channels, network.latent_stride
        scale = self.stride // self.latent_stride
        if self.channels != self.latent_channels * scale**2:
            raise ValueError(
                f"a block of {scale} x {scale} latents of {self.latent_channels} channels has "
                f"{self.latent_channels * scale**2} coefficients; the network's channels must be as many, got "
                f"{self.channels}"
            )
        self.functions: Tensor
        self.register_buffer("functions", block_basis(scale, self.latent_channels))
        self.gain = nn.Parameter(torch.zeros(self.channels, 1, 1))

    def forward(self, image: Tensor, latent: Tensor) -> Tensor:
        """Map RGB in [0, 1], (B, 3, H, W), and its latent to features, (B, C, H/stride, W/stride)."""
        coefficients = F.conv2d(latent, self.functions, stride=self.functions.shape[-1])
        return coefficients + self.gain * self.network(image, latent)
