"""The consistency branch: features of the condition's maps at every level of resolution."""

from collections.abc import Sequence

from torch import Tensor

from ulcompress.denoisers.pyramid import Pyramid
from ulcompress.part import Part, loadable


@loadable()
class ConsistencyEncoder(Part):
    """Takes maps of the condition alone, neither x_t nor the time, so that all steps of a sample share its features.

    maps ─► Pyramid ─► e_0, e_1 ... e_N

    Source: CGDM (Kuang et al., ACM MM 2024), the consistency branch of the architecture figure, whose input is the base
    reconstruction.
    """

    def __init__(
        self, *, channels: int = 3, widths: Sequence[int] = (64, 128, 192, 256), patch_size: int = 4, blocks: int = 1
    ):
        """Build the network with random weights; widths and patch size are those of the `GuidedUNet` that it guides.

        Args:
            channels: Sum of the channels of all maps.
            widths: Channels of each level, finest first.
            patch_size: Side of the square of pixels that is one position of the finest level.
            blocks: Residual blocks a level.
        """
        super().__init__()
        self.channels = channels
        self.widths = tuple(widths)
        self.patch_size = patch_size
        self.pyramid = Pyramid(channels, widths, patch_size=patch_size, blocks=blocks)

    def forward(self, maps: Tensor) -> list[Tensor]:
        """Turn the concatenated maps, (B, C, H, W), into features (B, width, h, w), finest first."""
        return self.pyramid(maps)
