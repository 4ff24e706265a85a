"""A network that tells restored images from originals, patch by patch."""

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ulcompress.part import Part

SLOPE = 0.2


@final
class PatchDiscriminator(Part):
    """Judges every patch of an image by itself: convolutions of stride 2, and one logit for each position.

        image ─► 4x4, stride 2 ─► leaky ReLU ─► ... ─► 3x3 ─► leaky ReLU ─► 3x3 ─► logits

    Sources: Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017, section 3.2.2;
    spectral normalisation of every layer from Miyato et al., ICLR 2018.
    """

    def __init__(self, *, widths: Sequence[int] = (64, 128, 256)):
        """Build it with random weights.

        Args:
            widths: Channels of each level; every level halves the resolution. Three levels see patches of 54 pixels.

        Raises:
            ValueError: There is no width.
        """
        super().__init__()
        if not widths:
            raise ValueError("a discriminator needs at least one width, got none")
        layers: list[nn.Module] = []
        for channels, width in zip([3, *widths], widths, strict=False):
            layers += [spectral_norm(nn.Conv2d(channels, width, 4, stride=2, padding=1)), nn.LeakyReLU(SLOPE)]
        last = widths[-1]
        layers += [spectral_norm(nn.Conv2d(last, last, 3, padding=1)), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(last, 1, 3, padding=1)))

    def forward(self, images: Tensor) -> Tensor:
        """Map RGB in [0, 1], (B, 3, H, W), to logits, (B, 1, h, w); the higher, the more like an original."""
        return self.layers(2 * images - 1)
