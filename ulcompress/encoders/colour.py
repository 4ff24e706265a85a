"""Features that are the mean colours of blocks."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ulcompress.encoders.base import Encoder
from ulcompress.functional.cosine_transform import colour_basis
from ulcompress.part import loadable


@loadable()
class ColourEncoder(Encoder):
    """Gives the mean of each block in grey and in two differences of colours.

    It learns nothing. Beside the features of a latent (`ConcatenatedEncoder`) it tells a quantiser what errors of the
    latent mean in colour: near latents of an autoencoder need not have near colours.
    """

    channels = 3

    def __init__(self, *, stride: int = 16, chroma: float = 1.0):
        """Take the side of the blocks in pixels, and the factor of both differences; ValueError unless positive.

        With 1 distances between features are those between the mean colours in RGB.
        """
        super().__init__()
        if stride < 1 or chroma <= 0:
            raise ValueError(f"stride and chroma must be positive, got {stride} and {chroma}")
        self.stride = stride
        self.chroma = chroma
        self.axes: Tensor
        factors = torch.tensor([[1.0], [chroma], [chroma]])
        self.register_buffer("axes", factors * colour_basis().float(), persistent=False)

    def forward(self, image: Tensor, latent: Tensor) -> Tensor:
        """Map RGB in [0, 1], (B, 3, H, W), to features, (B, 3, H/stride, W/stride); the latent is not used."""
        return torch.einsum("kc,bchw->bkhw", self.axes, F.avg_pool2d(image - 0.5, self.stride))
