"""The consistency branch: what the base reconstruction says at every level of resolution."""

from collections.abc import Sequence

from torch import Tensor

from ulcompress.decoders.pyramid import Pyramid
from ulcompress.part import Part, loadable


@loadable()
class ConsistencyEncoder(Part):
    """Sees the base reconstruction alone, neither x_t nor the time, so that its features serve all steps of a sample.

    base ─► Pyramid ─► e_0, e_1 ... e_N

    Source: CGDM (Kuang et al., ACM MM 2024), the consistency branch of the architecture figure.
    """

    def __init__(self, *, widths: Sequence[int] = (64, 128, 192, 256), patch_size: int = 4, blocks: int = 1):
        """Build the network with random weights; widths and patch size are those of the `GuidedUNet` that it guides.

        Args:
            widths: Channels of each level, finest first.
            patch_size: Side of the square of pixels that is one position of the finest level.
            blocks: Residual blocks a level.
        """
        super().__init__()
        self.widths = tuple(widths)
        self.patch_size = patch_size
        self.pyramid = Pyramid(3, widths, patch_size=patch_size, blocks=blocks)

    def forward(self, base: Tensor) -> list[Tensor]:
        """Map a base reconstruction in [-1, 1], (B, 3, H, W), to features (B, width, h, w), finest first."""
        return self.pyramid(base)
