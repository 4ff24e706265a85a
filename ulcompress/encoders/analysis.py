"""The analysis transform of a learned codec."""

from torch import Tensor

from ulcompress.encoders.base import Encoder
from ulcompress.learned.compressai import CompressAIModel, HyperpriorModel
from ulcompress.part import loadable


@loadable()
class AnalysisTransform(Encoder):
    """Maps the image itself to the features of a learned codec: `g_a` in Ballé et al., ICLR 2018, figure 2."""

    def __init__(self, *, model: HyperpriorModel | None = None):
        """Take the network of `model`, a small mean-scale hyperprior with random weights by default."""
        super().__init__()
        self.model = model if model is not None else CompressAIModel()
        self.stride = self.model.stride
        self.channels = self.model.channels
        self.network = self.model.analysis()

    def forward(self, image: Tensor, latent: Tensor) -> Tensor:
        """Map RGB in [0, 1], (B, 3, H, W), to features; the latent is not used."""
        return self.network(image)
