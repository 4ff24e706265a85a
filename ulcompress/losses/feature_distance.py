"""The distance on the feature maps of a torchvision classifier."""

from collections.abc import Sequence

from torch import Tensor

from ulcompress.losses.backbone import ImageNetScale, load_backbone, sizes
from ulcompress.losses.base import SMALLEST_SIDE
from ulcompress.losses.map_distance import MapDistance

LAYERS = {
    "squeezenet1_1": (1, 4, 7, 9, 10, 11, 12),
    "vgg16": (3, 8, 15, 22, 29),
    "alexnet": (1, 4, 7, 9, 11),
}
"""Indices within `features` of the layers whose outputs are compared; other backbones: the last of each resolution."""


class FeatureDistance(MapDistance):
    """The distance on the feature maps of any torchvision classifier whose layers are a chain."""

    def __init__(
        self, *, weights: str | None = None, backbone: str = "squeezenet1_1", texture: float = 0.0, shift: int = 0
    ):
        """Load the backbone.

        Args:
            weights: A safetensors file of torchvision's state dictionary; None downloads torchvision's file.
            backbone: Name of the torchvision classifier.
            texture: As in `MapDistance`.
            shift: As in `MapDistance`.

        Raises:
            ValueError: The backbone is unknown, its weights are missing, or `texture` or `shift` is negative.
        """
        super().__init__(network=backbone, smallest=SMALLEST_SIDE, texture=texture, shift=shift)
        self.features = load_backbone(backbone, weights)
        self.layers = LAYERS.get(backbone) or last_of_each_size(sizes(self.features))
        self.scale = ImageNetScale()
        self.freeze()

    def evaluate(self, images: Tensor) -> list[Tensor]:
        """Return the maps of the layers that are compared."""
        hidden, maps = self.scale(images), []
        for index, layer in enumerate(self.features[: self.layers[-1] + 1]):
            hidden = layer(hidden)
            if index in self.layers:
                maps.append(hidden)
        return maps


def last_of_each_size(sides: Sequence[int]) -> tuple[int, ...]:
    """Return the indices of the maps after which the side changes, and of the last one."""
    return tuple(index for index, side in enumerate(sides) if sides[index + 1 : index + 2] != [side])
