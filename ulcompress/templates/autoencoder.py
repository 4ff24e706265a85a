"""An autoencoder: pixels to and from the latent."""

from torch import Tensor, nn

from ulcompress.autoencoders import Autoencoder
from ulcompress.part import loadable


@loadable()
class Template(Autoencoder):
    """Maps each block of pixels to one latent position by a linear map, and back by another."""

    def __init__(self, *, stride: int = 8, channels: int = 4):
        """Build the two maps.

        Args:
            stride: Pixels a latent position, along each side.
            channels: Channels of the latent.
        """
        super().__init__()
        self.stride = stride
        self.channels = channels
        self.analysis = nn.Conv2d(3, channels, stride, stride=stride)
        self.synthesis = nn.ConvTranspose2d(channels, 3, stride, stride=stride)

    def encode(self, image: Tensor) -> Tensor:
        """Map RGB in [0, 1], (B, 3, H, W), to the latent, (B, C, H/stride, W/stride)."""
        return self.analysis(2 * image - 1)

    def decode(self, latent: Tensor) -> Tensor:
        """Map a latent, (B, C, h, w), to RGB, (B, 3, h*stride, w*stride)."""
        return (self.synthesis(latent) + 1) / 2
