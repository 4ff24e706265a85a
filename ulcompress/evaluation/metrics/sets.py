"""How far a set of restored images is from the set of originals: FID, KID, and a Fréchet distance on any backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchmetrics.image.kid import poly_mmd

from ulcompress.evaluation.metrics.backbones import PooledMaps, on_backbone
from ulcompress.evaluation.metrics.base import Pair, SetMetric, stacked
from ulcompress.evaluation.metrics.features import PooledFeatures
from ulcompress.evaluation.metrics.frechet import cut, frechet_of_points
from ulcompress.evaluation.metrics.remembered import Remembered
from ulcompress.evaluation.metrics.weights import fetch, hashes, reading

Features = Callable[[Tensor], Tensor]
"""Maps RGB in [0, 1], (B, 3, H, W), to (B, C)."""
INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
AT_ONCE = 32
"""Patches that go through a network together."""
SUBSETS, SUBSET = 100, 1000
"""Subsets of KID and samples in each, where there are more samples than one subset holds: its authors' numbers."""


class SetDistance(SetMetric):
    """A distance between two clouds of features."""

    better = "lower"
    batched = True

    def __init__(
        self,
        features: Features,
        distance: Callable[[Tensor, Tensor], float],
        *,
        patch: int | None,
        half_shift: bool,
        smallest: int = 1,
        name: str,
        label: str,
        protocol: str,
        files: Mapping[str, str],
    ):
        """Take what makes points of images and what compares two clouds of them, (N, C) and (M, C) float64.

        `patch` is the side in pixels of the squares into which images are cut, None for whole images; with `half_shift`
        a second grid, moved by half a patch in both directions, is cut as well. Images with a side below `smallest`
        pixels have no points.
        """
        self.features = features
        self.distance = distance
        self._features_of_original = Remembered(self._features)
        self.patch = patch
        self.half_shift = half_shift
        self.smallest = smallest
        self.name = name
        self.label = label
        self.protocol = protocol
        self.files = files

    def points(self, pair: Pair) -> dict[str, np.ndarray]:
        """Return the features of all patches, `restored` and `original`, (N, C) float32."""
        return self.batch([pair])[0]

    @torch.no_grad()
    def batch(self, pairs: Sequence[Pair]) -> list[dict[str, np.ndarray]]:
        """Return the points of each of several pairs, whose patches go through the network together."""
        restored, original = stacked(pairs)
        points = zip(self._features(restored), self._features_of_original(original), strict=True)
        return [{"restored": one, "original": other} for one, other in points]

    def compute(self, points: Sequence[Mapping[str, np.ndarray]]) -> float:
        """Return the distance; NaN with fewer than two samples."""
        restored, original = (
            torch.cat([torch.from_numpy(of_image[kind]) for of_image in points if len(of_image[kind])] or [NOTHING])
            for kind in ("restored", "original")
        )
        return self.distance(restored.double(), original.double()) if min(len(restored), len(original)) > 1 else np.nan

    def _features(self, images: Tensor) -> list[np.ndarray]:
        of_images = [self._patches(image) for image in images]
        patches = torch.cat(of_images)
        found = [self.features(some).cpu() for some in patches.split(AT_ONCE)] if len(patches) else [NOTHING]
        return [features.float().numpy() for features in torch.cat(found).split(list(map(len, of_images)))]

    def _patches(self, image: Tensor) -> Tensor:
        if min(image.shape[1:]) < self.smallest:
            return image[None][:0]
        if self.patch is None:
            return image[None]
        half = self.patch // 2
        grids = [image, image[:, half:, half:]] if self.half_shift else [image]
        large = [grid for grid in grids if min(grid.shape[1:]) >= self.patch]
        return torch.cat([cut(grid[None], self.patch) for grid in large]) if large else image[None][:0]


NOTHING = torch.zeros(0, 1)


def inception(kind: str, patch: int | None, folder: Path | None, device: str) -> SetDistance:
    """Return FID or KID on whole images, or on patches with a half shift; MissingWeights where those of Inception are.

    Heusel et al., NeurIPS 2017; Bińkowski et al., ICLR 2018; patches as Mentzer et al., NeurIPS 2020.
    """
    path = fetch(INCEPTION, folder)
    with reading(path):
        network = inception_features(path, device)
    what = f"patches of {patch} pixels and those of a grid moved by {patch // 2}" if patch else "whole images"
    bias = {"fid": "; few samples bias it upwards", "kid": ""}
    formulas = {
        "fid": "Fréchet distance",
        "kid": f"unbiased MMD with the cubic kernel; one subset of all samples up to {SUBSET}, else {SUBSETS} of "
        f"{SUBSET}, seed 0",
    }
    return SetDistance(
        network,
        {"fid": frechet_of_points, "kid": kernel_distance}[kind],
        patch=patch,
        half_shift=patch is not None,
        name=f"{kind}-{patch}-half-shift" if patch else kind,
        label=f"{kind.upper()} ({f'{patch}-pixel patches, half shift' if patch else 'whole images'})",
        protocol=f"{formulas[kind]} on Inception (2015-12-05, pool3) of torch-fidelity {version('torch-fidelity')}; "
        f"{what}, resized to 299 by the network{bias[kind]}",
        files=hashes(path),
    )


def frechet(
    name: str, patch: int | None, folder: Path | None, device: str, *, trust_networks: bool = False
) -> SetDistance:
    """Return the Fréchet distance on pooled features of a network, as for `feature_distance`; not FID."""
    what = f"patches of {patch} pixels" if patch else "whole images"
    from_file = partial(PooledMaps, trust=trust_networks)
    network, path, smallest = on_backbone(name, folder, device, from_file=from_file, published=PooledFeatures)
    return SetDistance(
        lambda images: network(images.to(device)),
        frechet_of_points,
        patch=patch,
        half_shift=False,
        smallest=smallest,
        name=f"frechet-{name}" + (f"-{patch}" if patch else ""),
        label=f"Fréchet distance ({name}, {what})",
        protocol=f"Fréchet distance on pooled features of the network {name}, {what}; not FID; images with a side "
        f"below {patch or smallest} pixels count for nothing",
        files=hashes(path),
    )


def inception_features(path: Path, device: str) -> Features:
    """Return FID's own Inception, with weights from a file of torch-fidelity's format."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.load(path, map_location="meta", weights_only=True)  # refuses all but tensors; torch-fidelity unpickles
    network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(path)).to(device)

    def features(images: Tensor) -> Tensor:
        (found,) = network((images * 255).round().to(device, torch.uint8))
        return found

    return features


def kernel_distance(restored: Tensor, original: Tensor) -> float:
    """Return the unbiased squared MMD with the cubic kernel of KID, of one subset or the mean of a hundred."""
    if max(len(restored), len(original)) <= SUBSET:
        return float(poly_mmd(original, restored))
    generator, size = torch.Generator().manual_seed(0), min(SUBSET, len(restored), len(original))
    drawn = (
        (original[_some(len(original), size, generator)], restored[_some(len(restored), size, generator)])
        for _ in range(SUBSETS)
    )
    return float(np.mean([float(poly_mmd(*pair)) for pair in drawn]))


def _some(count: int, size: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=generator)[:size]
