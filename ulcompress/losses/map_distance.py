"""A perceptual distance on the feature maps of any network; not LPIPS, whose weights are learned."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ulcompress.functional.padding import pad_to_minimum
from ulcompress.losses.base import NetworkDistance


class MapDistance(NetworkDistance):
    """Mean squared distance between unit-normalised feature maps of two images, averaged over the maps.

    Same construction as Zhang et al., The Unreasonable Effectiveness of Deep Features, CVPR 2018, equation 1, with
    equal weights for all channels. Name results after the network: the values are not comparable with LPIPS.

    Where a decoder cannot know the position of fine detail, the image of least distance is the mean over all positions,
    which has no detail. `texture` adds the squared distance between the maps' Gram matrices, which state what features
    occur together but not where (Gatys et al., Image Style Transfer Using Convolutional Neural Networks, CVPR 2016,
    equations 3 to 5).
    """

    def __init__(self, *, network: str, smallest: int, texture: float, shift: int):
        """Take the settings that all networks share.

        Args:
            network: Name of the network.
            smallest: Smallest side in pixels that the network takes; smaller images are padded.
            texture: Weight of the distance between Gram matrices, added to that between the maps.
            shift: For training: cut up to this many pixels off the upper and the left border, a random number each
                time. Without it the strides of the network always fall on the same pixels, and their grid shows in what
                a decoder learns.

        Raises:
            ValueError: `texture` or `shift` is negative.
        """
        super().__init__()
        for name, value in {"texture": texture, "shift": shift}.items():
            if value < 0:
                raise ValueError(f"{name} must be at least 0, got {value}")
        self.smallest = smallest
        self.texture = texture
        self.shift = shift
        self.name = f"{network} distance" + (f" with texture {texture:g}" if texture else "")
        self.name += f", shifted by up to {shift}" if shift else ""

    @abstractmethod
    def evaluate(self, images: Tensor) -> list[Tensor]:
        """Return the network's feature maps, (B, C, h, w) each, of RGB in [0, 1], (B, 3, H, W), large enough."""

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps of RGB in [0, 1], (B, 3, H, W), of any size, shifted all alike."""
        return self._shifted_maps(images, *self._shift())

    def _shift(self) -> tuple[int, int]:
        top, left = torch.randint(self.shift + 1, (2,)).tolist() if self.shift else (0, 0)
        return top, left

    def _shifted_maps(self, images: Tensor, top: int, left: int) -> list[Tensor]:
        return self.evaluate(pad_to_minimum(images, self.smallest + self.shift)[..., top:, left:])

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Compare two batches of RGB in [0, 1], (B, 3, H, W); returns (B,), 0 for equal images."""
        top, left = self._shift()
        # One after the other: in training the reference needs no gradient, and then costs no backward pass.
        return self.between(*(self._shifted_maps(images, top, left) for images in (image, reference)))

    def between(self, maps: Iterable[Tensor], others: Sequence[Tensor]) -> Tensor:
        """Return the mean over the maps of their distances."""
        pairs = zip(maps, others, strict=True)
        return torch.stack([distance_of_maps(one, other, self.texture) for one, other in pairs]).mean(0)


def distance_of_maps(first: Tensor, second: Tensor, texture: float = 0.0) -> Tensor:
    """Compare two batches of feature maps, (B, C, h, w), each position at unit length; returns (B,)."""
    first, second = _unit(first), _unit(second)
    distance = (first - second).square().sum(1).mean((1, 2))
    return distance + texture * (_gram(first) - _gram(second)).square().sum((1, 2)) if texture else distance


def _unit(maps: Tensor) -> Tensor:
    maps = maps.float()
    # The epsilon stays inside the root: its gradient at zero features would be infinite otherwise.
    return maps * torch.rsqrt(maps.square().sum(1, keepdim=True) + 1e-8)


def _gram(maps: Tensor) -> Tensor:
    """Return the mean products of all pairs of channels, (B, C, h, w) to (B, C, C)."""
    vectors = maps.flatten(2)
    with torch.autocast(maps.device.type, enabled=False):  # half precision cannot resolve their small differences
        return vectors @ vectors.mT / vectors.shape[-1]
