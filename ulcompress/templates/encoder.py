"""An encoder: image and latent to the features that are quantised."""

from torch import Tensor, nn

from ulcompress.encoders import Encoder
from ulcompress.part import loadable


@loadable()
class Template(Encoder):
    """Maps each block of pixels to one position of the features; it does not look at the latent."""

    def __init__(self, *, stride: int = 16, channels: int = 32):
        """Build the network.

        Args:
            stride: Pixels a feature position, along each side.
            channels: Channels of the features.
        """
        super().__init__()
        self.stride = stride
        self.channels = channels
        self.blocks = nn.Conv2d(3, channels, stride, stride=stride)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, image: Tensor, latent: Tensor) -> Tensor:
        """Map RGB in [0, 1], (B, 3, H, W), to features, (B, channels, H/stride, W/stride)."""
        return self.mix(nn.functional.silu(self.blocks(2 * image - 1)))
