"""DISTS, the distance of structure and texture of the literature."""

from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ulcompress.functional.padding import pad_to_minimum
from ulcompress.losses.backbone import ImageNetScale, load_backbone
from ulcompress.losses.base import SMALLEST_SIDE, NetworkDistance

CHANNELS = (3, 64, 128, 256, 512, 512)
"""Channels of the image and of the five maps of VGG-16 that are compared: before each pooling, and the last."""
STABLE = 1e-6


class DISTS(NetworkDistance):
    """Deep image structure and texture similarity: means and covariances of VGG-16's maps over the whole image.

    Ding et al., Image Quality Assessment: Unifying Structure and Texture Similarity, TPAMI 2020, equations 4 to 6.
    Poolings of VGG-16 are replaced by the L2 pooling of section 3.1; weights of the channels come with torchmetrics.
    """

    name = "dists"

    def __init__(self, *, weights: str | None = None):
        """Load the network.

        Args:
            weights: A safetensors file of the state dictionary of torchvision's vgg16; None downloads torchvision's.

        Raises:
            ValueError: The weights are missing or those of another network.
        """
        super().__init__()
        self.scale = ImageNetScale()
        self.features = load_backbone("vgg16", weights)
        alpha, beta = _weights_of_channels()
        total = alpha.sum() + beta.sum()
        self.alpha: Tensor
        self.beta: Tensor
        self.window: Tensor
        self.register_buffer("alpha", alpha / total, persistent=False)
        self.register_buffer("beta", beta / total, persistent=False)
        hann = torch.hann_window(5, periodic=False)[1:-1]
        self.register_buffer("window", hann[:, None] * hann / hann.sum().square(), persistent=False)
        self.freeze()

    def maps(self, images: Tensor) -> Iterator[Tensor]:
        """Return the image and VGG-16's maps of it."""
        images = pad_to_minimum(images, SMALLEST_SIDE)
        yield images
        hidden = self.scale(images)
        for layer in self.features:
            pooling = isinstance(layer, nn.MaxPool2d)
            if pooling:
                yield hidden
            hidden = self._pooled(hidden) if pooling else layer(hidden)

    def between(self, maps: Iterable[Tensor], others: Sequence[Tensor]) -> Tensor:
        """Return the weighted sum of the distances of means and of covariances of each pair of maps."""
        weights = self.alpha.split(CHANNELS), self.beta.split(CHANNELS)
        return torch.stack([_distance(*each) for each in zip(maps, others, *weights, strict=True)]).sum(0)

    def _pooled(self, maps: Tensor) -> Tensor:
        channels = maps.shape[1]
        window = self.window.expand(channels, 1, 3, 3)
        return (F.conv2d(maps.square(), window, stride=2, padding=1, groups=channels) + 1e-12).sqrt()


def _distance(one: Tensor, other: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """Return the weighted distance of means (texture) and of covariances (structure) of two maps, (B,)."""
    one, other = one.flatten(2), other.flatten(2)
    mean, other_mean = one.mean(2), other.mean(2)
    texture = (2 * mean * other_mean + STABLE) / (mean.square() + other_mean.square() + STABLE)
    # Centred first: the difference of two large means would not be 0 for equal images.
    one, other = one - mean[..., None], other - other_mean[..., None]
    variances = one.square().mean(2) + other.square().mean(2)
    covariance = (one * other).mean(2)
    structure = (2 * covariance + STABLE) / (variances + STABLE)
    # The weights of all maps sum to 1, so the sum of the differences is 1 minus that of the similarities.
    return (1 - texture) @ alpha + (1 - structure) @ beta


def _weights_of_channels() -> tuple[Tensor, Tensor]:
    """Read DISTS' alpha and beta, (1475,) each, without importing the package that carries them."""
    spec = find_spec("torchmetrics")
    assert spec is not None and spec.origin is not None
    file = Path(spec.origin).parent / "functional" / "image" / "dists_models" / "weights.pt"
    state = torch.load(file, map_location="cpu", weights_only=True)
    return state["alpha"].flatten(), state["beta"].flatten()
