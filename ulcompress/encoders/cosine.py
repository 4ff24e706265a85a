"""Features that are cosine coefficients before training."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ulcompress.encoders.base import Encoder
from ulcompress.functional.cosine_transform import cosine_basis
from ulcompress.part import loadable


@loadable()
class CosineEncoder(Encoder):
    """Adds the output of a network to the cosine coefficients of blocks as large as the network's stride.

        image ─► cosine transform, lowest frequencies ──┐
        image, latent ─► network ─► gains, deviations ─(+)─► features

    The gains are zero at first (Bachlechner et al., ReZero is All You Need, UAI 2021), so training starts from a
    transform code, whose features are as far from one another as the pixels, and improves on it. Coefficients are in
    units of `UNIT`.
    """

    UNIT = 4.0

    def __init__(self, *, network: Encoder):
        """Take the network, whose stride and channels are those of the features; ValueError for too many channels."""
        super().__init__()
        self.network = network
        self.stride = network.stride
        self.channels = network.channels
        self.latent_channels, self.latent_stride = network.latent_channels, network.latent_stride
        self.functions: Tensor
        self.deviations: Tensor
        functions, deviations = cosine_basis(self.stride, self.channels)
        self.register_buffer("functions", functions / self.UNIT)
        self.register_buffer("deviations", deviations[:, None, None] / self.UNIT)
        self.gain = nn.Parameter(torch.zeros(self.channels, 1, 1))

    def forward(self, image: Tensor, latent: Tensor) -> Tensor:
        """Map RGB in [0, 1], (B, 3, H, W), and its latent to features, (B, C, H/stride, W/stride)."""
        coefficients = F.conv2d(image - 0.5, self.functions, stride=self.stride)
        return coefficients + self.gain * self.deviations * self.network(image, latent)
