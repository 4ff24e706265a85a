"""A perceptual distance: what images are compared by in a training."""

from torch import Tensor

from ulcompress.losses import PerceptualDistance
from ulcompress.part import loadable


@loadable()
class Template(PerceptualDistance):
    """The mean absolute difference of pixels."""

    name = "template_package"

    def __init__(self):
        """Freeze it: a distance is not trained."""
        super().__init__()
        self.freeze()

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Compare two batches of RGB in [0, 1], (B, 3, H, W); returns (B,), 0 for equal images."""
        return (image - reference).abs().mean((1, 2, 3))
