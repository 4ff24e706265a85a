"""Functions on a codebook. Vectors and entries are (N, D), of unit length where they are compared by cosine."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ulcompress.functional import distributed

LEAST = 1e-3
"""Weight below which an entry that is not chosen no longer fades, since it could vanish in half precision."""
LARGEST = 2.0**15
"""Weight above which the averages of an entry are scaled down, since half precision ends at 65504."""
ROWS = 8192
"""Vectors that are compared with the codebook at once, so that a large image does not need much memory."""


def nearest(vectors: Tensor, entries: Tensor) -> Tensor:
    """Return the index of the entry with the largest cosine, (N,)."""
    return torch.cat([(part @ entries.T).argmax(-1) for part in vectors.split(ROWS)])


def members(vectors: Tensor, indices: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return how many vectors chose each of `size` entries, (size,) floats, and their sums, (size, D), over ranks."""
    counts = torch.bincount(indices, minlength=size).to(vectors.dtype)
    sums = vectors.new_zeros(size, vectors.shape[-1]).index_add_(0, indices, vectors)
    return distributed.summed(counts), distributed.summed(sums)


def draw(vectors: Tensor, count: int) -> Tensor:
    """Draw `count` of the first rank's vectors, slightly perturbed."""
    picked = chosen(vectors, count)
    return distributed.of_first(F.normalize(picked + 0.01 * torch.randn_like(picked), dim=-1))


def chosen(vectors: Tensor, count: int) -> Tensor:
    """Choose `count` of this rank's vectors at random, each once before any comes again."""
    order = torch.randperm(len(vectors), device=vectors.device)
    return vectors[order[torch.arange(count, device=vectors.device) % len(vectors)]]


def direction(sums: Tensor, counts: Tensor) -> Tensor:
    """Return the mean directions of vectors, given their sums, (N, D); their counts, (N, 1), do not matter."""
    return F.normalize(sums, dim=-1)


def k_means(
    vectors: Tensor,
    entries: Tensor,
    iterations: int,
    *,
    choose: Callable[[Tensor, Tensor], Tensor] = nearest,
    centroid: Callable[[Tensor, Tensor], Tensor] = direction,
) -> Tensor:
    """Move entries to the centroids of the vectors of all ranks that choose them: by default to their mean directions.

    An entry that no vector chooses keeps its value.

    Source: Dhillon and Modha, Concept Decompositions for Large Sparse Text Data Using Clustering, Machine Learning
    42, 2001 (spherical k-means).
    """
    for _ in range(iterations):
        counts, sums = members(vectors, choose(vectors, entries), len(entries))
        entries = torch.where(counts[:, None] > 0, centroid(sums, counts.clamp_min(1)[:, None]), entries)
    return entries


@torch.no_grad()
def fill(usage: Tensor, sums: Tensor, entries: Tensor, vectors: Tensor) -> None:
    """Set entries, (size, D), in place, each with the weight of an equal share of the vectors, (N, D), of all ranks."""
    usage.copy_(distributed.summed(vectors.new_tensor(len(vectors))) / len(usage))
    sums.copy_(entries * usage[:, None])


@torch.no_grad()
def update(
    usage: Tensor,
    sums: Tensor,
    vectors: Tensor,
    indices: Tensor,
    *,
    decay: float,
    revive_below: float,
    drawn: Callable[[int], Tensor],
) -> None:
    """Move entries towards the vectors, (N, D), of all ranks that chose them, in place; indices are (N,).

    Moving averages of how many vectors choose an entry, (size,), and of their sums, (size, D), with this decay.
    """
    counts, chosen_sums = members(vectors, indices, len(usage))
    weights = (1 - decay) * ((counts > 0) | (usage > LEAST)).to(sums.dtype)
    usage.lerp_(counts, weights)
    sums.lerp_(chosen_sums, weights[:, None])
    bound(usage, sums)
    revive(usage, sums, revive_below, drawn)


def bound(usage: Tensor, sums: Tensor) -> None:
    """Scale down, in place, weights and sums that half precision could not hold; their quotients, the entries, stay."""
    scale = (LARGEST / usage).clamp_max(1)
    usage.mul_(scale)
    sums.mul_(scale[:, None])


def revive(usage: Tensor, sums: Tensor, below: float, drawn: Callable[[int], Tensor]) -> None:
    """Move the entries that are chosen less often than `below` onto vectors that are drawn, in place."""
    dead = (usage < below).nonzero().flatten()
    if len(dead):
        # The new entry starts with the weight of an average one, or it would die again at once.
        weight = float(usage.sum() / len(usage))
        sums[dead] = weight * drawn(len(dead))
        usage[dead] = weight
