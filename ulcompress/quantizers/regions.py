"""Vectors at few positions of a map that stand for the regions around them."""

import torch
from torch import Tensor

from ulcompress.entropy.inference import nearest_known
from ulcompress.entropy.order import spread


def region_means(vectors: Tensor, count: int, *, everywhere: bool = False) -> Tensor:
    """Replace vectors, (1, D, h, w), by means over regions, each of the positions nearest to one that a decoder knows.

    Args:
        vectors: The map.
        count: How many positions the decoder knows, at least 1: the first ones in the order of coding.
        everywhere: Replace all vectors by the means of their regions, not just those at the known positions.
    """
    grid = vectors.shape[-2:]
    known = torch.zeros(grid.numel(), dtype=torch.bool)
    known[spread(*grid)[:count]] = True
    places = torch.arange(grid.numel()).view(grid)
    region = nearest_known(places, known.view(grid)).flatten().to(vectors.device)
    flat = vectors[0].flatten(1)
    sums = torch.zeros_like(flat).index_add_(1, region, flat)
    means = sums / region.bincount(minlength=grid.numel()).clamp_min(1)
    replaced = means[:, region] if everywhere else torch.where(known.to(flat.device), means, flat)
    return replaced.view(vectors.shape)
