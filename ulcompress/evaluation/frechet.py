"""How far a set of restored images is from the set of originals."""

from __future__ import annotations

import torch
from torch import Tensor

from ulcompress.evaluation.features import PooledFeatures

AT_ONCE = 64
"""Patches that go through the backbone together, whatever the size of the image."""


class FrechetDistance:
    """Fréchet distance between the features of restored images and of originals, each set taken as a Gaussian.

    The squared distance of Dowson and Landau, 1982, as Heusel et al., NeurIPS 2017, equation 6, apply it to the
    features of Inception. These are other features, so this is not FID: `name` says which ones. Values fall as the
    number of samples grows; compare only those of the same backbone, patch and images.
    """

    def __init__(self, *, features: PooledFeatures, patch: int | None = 128):
        """Start with no image.

        Args:
            features: What makes points of images.
            patch: Side in pixels of the squares into which every image is cut, so that few images give enough samples;
                what is left at the right and the lower edge is not seen. None takes images as they are.

        Raises:
            ValueError: The patch is not a positive number.
        """
        if patch is not None and patch < 1:
            raise ValueError(f"got patch {patch}; give the side of the patches in pixels, at least 1, or None")
        self.features = features
        self.patch = patch
        self.restored = Gaussian()
        self.originals = Gaussian()

    @property
    def name(self) -> str:
        """What is measured, for tables: `Fréchet distance on SqueezeNet 1.1 features, patches of 128 pixels`."""
        patches = f", patches of {self.patch} pixels" if self.patch else ""
        return f"Fréchet distance on {self.features.name} features{patches}"

    @torch.no_grad()
    def update(self, restored: Tensor, originals: Tensor) -> None:
        """Add images to both sets: RGB in [0, 1], (B, 3, H, W); sizes may change from call to call.

        Raises:
            ValueError: An image is smaller than a patch.
        """
        points = [self._points(restored), self._points(originals)]  # both or, after an error, neither
        self.restored.add(points[0])
        self.originals.add(points[1])

    def compute(self) -> float:
        """Return the distance, at least 0; ValueError with fewer than two samples in either set."""
        restored, originals = self.restored, self.originals
        count = min(restored.count, originals.count)
        if count < 2:
            raise ValueError(f"got {count} samples for the {self.name}; at least 2 are needed, many more are better")
        return frechet_distance(restored.mean, restored.covariance, originals.mean, originals.covariance)

    def _points(self, images: Tensor) -> Tensor:
        pieces = images if self.patch is None else cut(images, self.patch)
        return torch.cat([self.features(some) for some in pieces.split(AT_ONCE)])


class Gaussian:
    """Count, mean and covariance of points that come in batches, in float64 on the CPU.

    Batches are merged by the update of Chan, Golub and LeVeque, 1979, which does not cancel.
    """

    count: int = 0
    mean: Tensor
    """Over all points, (C,)."""

    def __init__(self):
        self.mean = torch.zeros(())
        self._scatter = torch.zeros(())

    @property
    def covariance(self) -> Tensor:
        """Unbiased, (C, C); needs two points."""
        return self._scatter / (self.count - 1)

    def add(self, points: Tensor) -> None:
        """Add points, (N, C)."""
        points = points.detach().cpu().double()
        size, total = len(points), self.count + len(points)
        mean = points.mean(0)
        centred, step = points - mean, mean - self.mean
        self._scatter = self._scatter + centred.T @ centred + torch.outer(step, step) * (self.count * size / total)
        self.mean = self.mean + step * (size / total)
        self.count = total


def cut(images: Tensor, side: int) -> Tensor:
    """Cut images, (B, C, H, W), into squares that do not overlap, (N, C, side, side), left and upper edge first.

    Raises ValueError where not one square fits.
    """
    height, width = images.shape[2:]
    if min(height, width) < side:
        raise ValueError(f"got an image of {width} x {height} pixels, patches have {side}; take smaller patches")
    squares = images.unfold(2, side, side).unfold(3, side, side)  # (B, C, rows, columns, side, side)
    return squares.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)


def frechet_distance(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> float:
    """Return the squared Fréchet distance of two Gaussians with means (C,) and covariances (C, C), at least 0."""
    # The trace of sqrt(A B) is the sum of the singular values of sqrt(A) sqrt(B): no root of rounding errors is taken,
    # so singular covariances, those of few samples, do not blow them up.
    cross = torch.linalg.svdvals(_root(covariance) @ _root(other_covariance)).sum()
    spread = covariance.trace() + other_covariance.trace() - 2 * cross
    return max(0.0, float((mean - other_mean).square().sum() + spread))


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp_min(0).sqrt() @ vectors.T


def frechet_of_points(points: Tensor, others: Tensor) -> float:
    """Return the squared Fréchet distance of the Gaussians of two sets of points, (N, C) and (M, C), at least 0.

    The product of the two roots has the singular values of the product of the two sets of centred points, and so of
    that of their triangular factors: no matrix larger than C by C, or N by M, is taken apart, and no root is needed.
    """
    mean, other_mean = points.mean(0), others.mean(0)
    centred = (points - mean) / (len(points) - 1) ** 0.5
    other_centred = (others - other_mean) / (len(others) - 1) ** 0.5
    factor, other_factor = (torch.linalg.qr(part, mode="r").R for part in (centred, other_centred))
    cross = torch.linalg.svdvals(factor @ other_factor.T).sum()
    spread = centred.square().sum() + other_centred.square().sum() - 2 * cross
    return max(0.0, float((mean - other_mean).square().sum() + spread))
