"""Perceptual distances: LPIPS, DISTS, and one on the features of any backbone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from ulcompress.evaluation.metrics.backbones import on_backbone
from ulcompress.evaluation.metrics.base import Pair, PairMetric, stacked
from ulcompress.evaluation.metrics.remembered import Remembered
from ulcompress.evaluation.metrics.weights import (
    SMALLEST_SIDE,
    convolutions,
    hashes,
    reading,
)
from ulcompress.losses import DISTS, LPIPS, ExportedDistance, FeatureDistance
from ulcompress.losses.base import NetworkDistance
from ulcompress.losses.lpips import BACKBONES as LPIPS_BACKBONES

NETS = {"alex": "AlexNet", "vgg": "VGG-16", "squeeze": "SqueezeNet 1.1"}


class Perceptual(PairMetric):
    """A distance between images by a network, in [0, 1] RGB at full size."""

    better = "lower"
    batched = True

    def __init__(
        self,
        distance: NetworkDistance,
        *,
        device: str,
        smallest: int = SMALLEST_SIDE,
        name: str,
        label: str,
        protocol: str,
        files: dict[str, str],
    ):
        """Take a distance, and bring its network to a device.

        Images with a side below `smallest` pixels have no number.
        """
        self.smallest = smallest
        self.distance = distance.eval().to(device)
        self.device = device
        self.maps_of_original = Remembered(lambda images: list(self._maps(images)))
        self.name = name
        self.label = label
        self.protocol = protocol
        self.files = files

    def __call__(self, pair: Pair) -> float:
        """Return the distance; NaN for an image that is too small."""
        return self.batch([pair])[0]

    @torch.no_grad()
    def batch(self, pairs: Sequence[Pair]) -> list[float]:
        """Return the distances of pairs of one size; NaN where that is too small."""
        restored, original = stacked(pairs)
        if min(original.shape[2:]) < self.smallest:
            return [float("nan")] * len(pairs)
        return self.distance.between(self._maps(restored), self.maps_of_original(original)).tolist()

    def _maps(self, images: Tensor) -> Iterable[Tensor]:
        return self.distance.maps(images.to(self.device))


def lpips(net: str, folder: Path | None, device: str) -> Perceptual:
    """Return LPIPS 0.1 on one of `NETS`; MissingWeights where torchvision's own weights of the network are.

    Other weights of the same network do not do: those of the channels were fitted to these.
    """
    path = convolutions(LPIPS_BACKBONES[net], folder)
    with reading(path):
        network = LPIPS(net=net, weights=str(path))
    return Perceptual(
        network,
        device=device,
        name=f"lpips-{net}",
        label=f"LPIPS ({NETS[net]})",
        protocol=f"LPIPS version 0.1 on {NETS[net]}, full size, torchmetrics {version('torchmetrics')}",
        files=hashes(path),
    )


def dists(folder: Path | None, device: str) -> Perceptual:
    """Return DISTS on VGG-16 (Ding et al., TPAMI 2020); MissingWeights where those of the network are."""
    path = convolutions("vgg16", folder)
    with reading(path):
        network = DISTS(weights=str(path))
    return Perceptual(
        network,
        device=device,
        name="dists",
        label="DISTS",
        protocol=f"DISTS on VGG-16, full size, torchmetrics {version('torchmetrics')}",
        files=hashes(path),
    )


def feature_distance(name: str, folder: Path | None, device: str, *, trust_networks: bool = False) -> Perceptual:
    """Return the distance on a classifier of torchvision's, or on a network that the folder holds.

    That is NAME.safetensors, as `losses.layers` writes it, or NAME.pt2, which is read where `trust_networks` says so.
    MissingWeights where they are not to be had.
    """
    network, path, smallest = on_backbone(
        name,
        folder,
        device,
        from_file=lambda path: ExportedDistance(file=str(path), trust=trust_networks),
        published=FeatureDistance,
    )
    return Perceptual(
        network,
        device=device,
        smallest=smallest,
        name=f"feature-distance-{name}",
        label=f"feature distance ({name})",
        protocol=f"mean squared distance of unit-normalised features of the network {name}, equal weights, full size; "
        "not LPIPS",
        files=hashes(path),
    )
