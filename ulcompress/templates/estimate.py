"""An estimate: what a decoder knows of its target before it samples."""

from torch import Tensor, nn

from ulcompress.diffusion import Estimate
from ulcompress.part import loadable
from ulcompress.records import Condition


@loadable()
class Template(Estimate):
    """Maps each position of the features to a block of the latent by a linear map."""

    requires = frozenset({"spatial"})

    def __init__(self, *, spatial_channels: int = 32, channels: int = 16, feature_stride: int = 16, stride: int = 8):
        """Build the map.

        Args:
            spatial_channels: Channels of the features.
            channels: Channels of the latent.
            feature_stride: Pixels a feature position, along each side; a multiple of `stride`.
            stride: Pixels a latent position, along each side.
        """
        super().__init__()
        self.condition_channels = {"spatial": spatial_channels}
        self.channels = channels
        self.feature_stride = feature_stride
        self.target_stride = stride
        scale = feature_stride // stride
        self.map = nn.Sequential(nn.Conv2d(spatial_channels, channels * scale**2, 1), nn.PixelShuffle(scale))

    def forward(self, condition: Condition) -> Tensor:
        """Return the estimate on the grid of the latent, (B, C, h, w)."""
        return self.map(condition.spatial)
