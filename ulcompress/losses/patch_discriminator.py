"""A discriminator on pixels."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ulcompress.losses.discriminator import SLOPE, Discriminator
from ulcompress.part import loadable


@loadable()
class PatchDiscriminator(Discriminator):
    """Judges every patch of an image by itself: convolutions of stride 2, and one logit for each position.

        image ─► 4x4, stride 2 ─► leaky ReLU ─► ... ─► 3x3 ─► leaky ReLU ─► 3x3 ─► logits

    Sources: Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017, section 3.2.2;
    spectral normalisation of every layer from Miyato et al., ICLR 2018.
    """

    def __init__(self, *, widths: Sequence[int] = (64, 128, 256)):
        """Build the layers with random weights.

        Args:
            widths: Channels of each level; every level halves the resolution. Three levels see patches of 54 pixels.

        Raises:
            ValueError: `widths` is empty.
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

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return one map of logits, (B, 1, h, w), with a position for each patch."""
        return [self.layers(2 * images - 1)]
