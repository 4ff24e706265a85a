"""An autoencoder: pixels to and from the latent."""

from torch import Tensor
from torch.nn import functional as F

from ulcompress.autoencoders import Autoencoder
from ulcompress.part import loadable

DEVIATION = 0.25
"""Of pixels in [0, 1], about: latents are brought to unit variance by it."""


@loadable()
class Template(Autoencoder):
    """Puts the pixels of each block into the channels of one latent position, so that nothing is lost.

    A codec's training leaves its autoencoder as it is, but for parts that `model.freezing.trained` names.
    """

    def __init__(self, *, stride: int = 4):
        """Take the side of a block in pixels."""
        super().__init__()
        self.stride = stride
        self.channels = 3 * stride**2

    def encode(self, image: Tensor) -> Tensor:
        """Map RGB in [0, 1], (B, 3, H, W), to the latent, (B, C, H/stride, W/stride)."""
        return F.pixel_unshuffle((image - 0.5) / DEVIATION, self.stride)

    def decode(self, latent: Tensor) -> Tensor:
        """Map a latent, (B, C, h, w), to RGB, (B, 3, h*stride, w*stride)."""
        return 0.5 + DEVIATION * F.pixel_shuffle(latent, self.stride)
