"""A discriminator on the feature maps of a fixed network."""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ulcompress.losses.discriminator import SLOPE, Discriminator
from ulcompress.losses.map_distance import MapDistance
from ulcompress.part import loadable

PROBE = 128
"""Side in pixels of the noise image on which the magnitude of the features is measured."""


@loadable()
class FeatureDiscriminator(Discriminator):
    """Judges each position of each of a fixed network's feature maps.

        image ─► network, fixed ─► map 1 ─► 1x1 ─► leaky ReLU ─► 3x3 ─► logits 1
                                └► ...
                                └► map n ─► 1x1 ─► leaky ReLU ─► 3x3 ─► logits n

    The features need no training, only their judgement does. Source: Sauer, Chitta, Müller and Geiger, Projected GANs
    Converge Faster, NeurIPS 2021, section 3 (here without random projections between the maps).
    """

    def __init__(self, *, network: MapDistance, width: int = 64):
        """Build the layers behind the network with random weights.

        Args:
            network: Its maps are judged, moved by its `shift`; the distance itself is not used.
            width: Channels behind each map.

        Raises:
            ValueError: The width is below 1, or a map is zero everywhere on noise.
        """
        super().__init__()
        if width < 1:
            raise ValueError(f"the width of a FeatureDiscriminator must be at least 1, got {width}")
        self.network = network
        noise = torch.rand(1, 3, PROBE, PROBE, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            maps = network.evaluate(noise)
        self.sizes = [float(each.square().mean().sqrt()) for each in maps]
        if not all(self.sizes):
            raise ValueError(f"map {self.sizes.index(0)} of {network.name} is zero everywhere; give another network")
        self.heads = nn.ModuleList(_head(each.shape[1], width) for each in maps)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return a map of logits, (B, 1, h, w), for each map of the network."""
        maps = self.network.maps(images)
        return [head(each / size) for head, each, size in zip(self.heads, maps, self.sizes, strict=True)]


def _head(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        spectral_norm(nn.Conv2d(channels, width, 1)),
        nn.LeakyReLU(SLOPE),
        spectral_norm(nn.Conv2d(width, 1, 3, padding=1)),
    )
