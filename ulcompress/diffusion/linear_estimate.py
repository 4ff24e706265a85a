"""A linear estimate of the latent from the features."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ulcompress.diffusion.estimate import Estimate
from ulcompress.encoders.cosine import CosineEncoder
from ulcompress.functional.cosine_transform import cosine_basis
from ulcompress.part import loadable
from ulcompress.records import Condition


@loadable()
class LinearEstimate(Estimate):
    """Maps features to the latent on its finer grid, each position by itself.

    It is initialised as the map from the coefficients of `CosineEncoder` to those of `CosineAutoencoder`, which the
    blocks of the former determine.
    """

    requires = frozenset({"spatial"})

    def __init__(self, *, spatial_channels: int = 64, spatial_stride: int = 16, channels: int = 16, stride: int = 8):
        """Compute the map.

        Args:
            spatial_channels: Channels of the features.
            spatial_stride: Pixels per feature position, along each side.
            channels: Channels of the latent.
            stride: Pixels per latent position, along each side; a divisor of `spatial_stride`.

        Raises:
            ValueError: `stride` is no divisor, or the blocks have fewer coefficients.
        """
        super().__init__()
        if spatial_stride % stride:
            raise ValueError(f"the stride {stride} of the latent must divide that of the features, {spatial_stride}")
        self.condition_channels = {"spatial": spatial_channels}
        self.feature_stride = spatial_stride
        self.channels = channels
        self.target_stride = stride
        self.scale = spatial_stride // stride
        self.map = nn.Conv2d(spatial_channels, channels * self.scale**2, 1)
        blocks = cosine_basis(spatial_stride, spatial_channels)[0] * CosineEncoder.UNIT
        functions, deviations = cosine_basis(stride, channels)
        latents = F.conv2d(blocks, functions, stride=stride) / deviations[:, None, None]  # (spatial, C, scale, scale)
        with torch.no_grad():
            self.map.weight.copy_(latents.flatten(1).T[..., None, None])
            nn.init.zeros_(self.map.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, condition: Condition) -> Tensor:
        """Map the features `spatial`, (B, C, h, w), to latents, (B, C', h * scale, w * scale)."""
        assert condition.spatial is not None
        with torch.autocast(condition.spatial.device.type, enabled=False):
            return F.pixel_shuffle(self.map(condition.spatial.float()), self.scale)
