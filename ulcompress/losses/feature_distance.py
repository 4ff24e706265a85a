"""A perceptual distance on the features of any torchvision classifier; not LPIPS, whose weights are learned."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ulcompress.losses.backbone import ImageNetScale, load_backbone, sizes
from ulcompress.losses.base import SMALLEST_SIDE, PerceptualDistance
from ulcompress.padding import pad_to_multiple

LAYERS = {
    "squeezenet1_1": (1, 4, 7, 9, 10, 11, 12),
    "vgg16": (3, 8, 15, 22, 29),
    "alexnet": (1, 4, 7, 9, 11),
}
"""Indices within `features` after whose activation the images are compared; elsewhere at the end of each resolution."""


class FeatureDistance(PerceptualDistance):
    """Mean squared distance between unit-normalised feature maps of two images, averaged over layers.

    Same construction as Zhang et al., The Unreasonable Effectiveness of Deep Features, CVPR 2018, equation 1, with
    equal weights for all channels. Name results after the backbone: the values are not comparable with LPIPS.

    Where a decoder cannot know where each blade of grass is, the mean of all possible places is nearest, and has no
    grass at all. `texture` adds the squared distance between the maps' Gram matrices, which say what features there
    are together but not where (Gatys et al., Image Style Transfer Using Convolutional Neural Networks, CVPR 2016,
    equations 3 to 5).
    """

    def __init__(
        self, *, weights: str | None = None, backbone: str = "squeezenet1_1", texture: float = 0.0, shift: int = 0
    ):
        """Load the backbone.

        Args:
            weights: A safetensors file of torchvision's state dictionary; None downloads torchvision's own file.
            backbone: Name of the torchvision classifier.
            texture: Weight of the distance between Gram matrices beside that between the maps.
            shift: For training: cut up to so many pixels off the upper and the left border, another number each time.
                Without, the strides of the backbone fall on the same pixels always, and leave their grid in what a
                decoder learns.

        Raises:
            ValueError: The backbone is unknown, the weights are not there, or `texture` or `shift` is negative.
        """
        super().__init__()
        check_at_least_0(texture=texture, shift=shift)
        self.texture = texture
        self.shift = shift
        self.name = f"{backbone} distance" + (f" with texture {texture:g}" if texture else "")
        self.name += f", shifted by up to {shift}" if shift else ""
        self.features = load_backbone(backbone, weights)
        self.layers = LAYERS.get(backbone) or last_of_each_size(sizes(self.features))
        self.scale = ImageNetScale()
        self.freeze()

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Compare two batches of RGB in [0, 1], (B, 3, H, W); returns (B,), 0 for equal images."""
        pair = pad_to_multiple(torch.cat([image, reference]), 1, minimum=SMALLEST_SIDE + self.shift)
        pair = self.scale(shifted(pair, self.shift))
        distances = []
        for index, layer in enumerate(self.features[: self.layers[-1] + 1]):
            pair = layer(pair)
            if index in self.layers:
                distances.append(distance_of_maps(pair, self.texture))
        return torch.stack(distances).mean(0)


def check_at_least_0(**values: float) -> None:
    """Raise ValueError for the first of some arguments that is negative."""
    for name, value in values.items():
        if value < 0:
            raise ValueError(f"{name} must be at least 0, got {value}")


def shifted(images: Tensor, shift: int) -> Tensor:
    """Cut up to `shift` rows and columns off the upper and the left border, another number each time."""
    top, left = torch.randint(shift + 1, (2,)).tolist() if shift else (0, 0)
    return images[..., top:, left:]


def distance_of_maps(pair: Tensor, texture: float = 0.0) -> Tensor:
    """Compare the halves of a batch of feature maps, (2B, C, h, w), each position at unit length; returns (B,)."""
    pair = pair.float()
    # The epsilon stays inside the root: its gradient at zero features would be infinite otherwise.
    first, second = (pair * torch.rsqrt(pair.square().sum(1, keepdim=True) + 1e-8)).chunk(2)
    distance = (first - second).square().sum(1).mean((1, 2))
    return distance + texture * (_gram(first) - _gram(second)).square().sum((1, 2)) if texture else distance


def _gram(maps: Tensor) -> Tensor:
    """Return the mean products of all pairs of channels, (B, C, h, w) to (B, C, C)."""
    vectors = maps.flatten(2)
    with torch.autocast(maps.device.type, enabled=False):  # half precision has no digits for small differences of them
        return vectors @ vectors.mT / vectors.shape[-1]


def last_of_each_size(sides: Sequence[int]) -> tuple[int, ...]:
    """Return the indices of the maps after which the side changes, and of the last one."""
    return tuple(index for index, side in enumerate(sides) if sides[index + 1 : index + 2] != [side])
