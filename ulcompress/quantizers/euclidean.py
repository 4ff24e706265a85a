"""A codebook whose entries are compared by distance."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from ulcompress.functional import distributed
from ulcompress.functional.devices import at_once
from ulcompress.quantizers.codebook import chosen, fill, k_means, update

SUMS = 1 << 20
"""Distances that a CPU computes at once: so many stay in its cache, which halves the time."""
VECTORS = 4
"""Vectors of the first batch for each entry that k-means places."""


class EuclideanCodebook(nn.Module):
    """Finds the entry nearest to a vector; entries follow moving averages of the vectors that chose them.

    k-means on the first training batch places one entry for every `VECTORS` vectors; further entries start as perturbed
    copies of these. Statistics are summed over ranks. Source: van den Oord et al., NeurIPS 2017, appendix A.1.
    """

    def __init__(self, size: int, dimension: int, *, decay: float, revive_below: float, kmeans_iterations: int):
        """Build an empty codebook of `size` entries; the other arguments are those of `VectorQuantizer`."""
        super().__init__()
        self.size = size
        self.decay = decay
        self.revive_below = revive_below
        self.kmeans_iterations = kmeans_iterations
        self.usage: Tensor
        self.sums: Tensor
        self.filled: Tensor
        self.register_buffer("usage", torch.ones(size))
        self.register_buffer("sums", torch.randn(size, dimension) / dimension**0.5)
        self.register_buffer("filled", torch.tensor(False))

    @property
    def entries(self) -> Tensor:
        """The entries, (size, dimension)."""
        return self.sums / self.usage[:, None]

    @property
    def saved_entries(self) -> Tensor:
        """The entries as a saved codec has them, whose weights are in half precision; on the CPU."""
        return self.sums.cpu().half().float() / self.usage.cpu().half().float()[:, None]

    @property
    def costs(self) -> Tensor:
        """The bits of each entry by how often it is chosen, (size,)."""
        return self.usage.sum().log2() - self.usage.log2()

    # In the following `penalty`, (N, size), is added to the squared distances of the vectors, (N, dimension).

    @torch.no_grad()
    def nearest(self, vectors: Tensor, penalty: Tensor) -> Tensor:
        """Return the index of the entry with the least sum of distance and penalty, (N,)."""
        return torch.cat([sums.argmin(-1) for sums in _sums(vectors, self.entries, penalty)])

    @torch.no_grad()
    def candidates(self, vectors: Tensor, penalty: Tensor, count: int) -> Tensor:
        """Return the indices of the `count` entries with the least sums of distance and penalty, (N, count)."""
        return torch.cat(
            [sums.topk(count, largest=False, sorted=False).indices for sums in _sums(vectors, self.entries, penalty)]
        )

    @torch.no_grad()
    def least(self, vectors: Tensor, penalty: Tensor) -> Tensor:
        """Return the least sum of distance and penalty, (N,)."""
        return torch.cat([sums.amin(-1) for sums in _sums(vectors, self.entries, penalty)]) + vectors.square().sum(-1)

    @torch.no_grad()
    def fill(self, vectors: Tensor) -> None:
        """Initialise the entries from the vectors of the first training batch, (N, dimension)."""
        # With as many entries as vectors nothing would be left for the next stage to learn from.
        seeds = min(self.size, max(1, len(vectors) // VECTORS))
        entries = k_means(
            vectors,
            _drawn(vectors, seeds),
            self.kmeans_iterations,
            choose=_nearest,
            centroid=torch.true_divide,
        )
        entries = _drawn(entries, self.size) if seeds < self.size else entries
        fill(self.usage, self.sums, entries, vectors)
        self.filled.fill_(True)

    def follow(self, vectors: Tensor, indices: Tensor) -> None:
        """Move the entries towards the vectors, (N, dimension), that chose them; indices are (N,)."""
        options = {"decay": self.decay, "revive_below": self.revive_below, "drawn": partial(_drawn, vectors)}
        update(self.usage, self.sums, vectors, indices, **options)


def _sums(vectors: Tensor, entries: Tensor, penalty: Tensor) -> Iterator[Tensor]:
    """Yield squared distances and penalties, (n, size), some rows at a time, without the squares of the vectors."""
    rows = max(1, at_once(SUMS, vectors.device) // len(entries))
    for part, part_penalty in zip(vectors.split(rows), penalty.split(rows), strict=True):
        yield torch.addmm(entries.square().sum(1) + part_penalty, part, entries.T, alpha=-2)


def _nearest(vectors: Tensor, entries: Tensor) -> Tensor:
    return torch.cat([sums.argmin(-1) for sums in _sums(vectors, entries, vectors.new_zeros(len(vectors), 1))])


def _drawn(vectors: Tensor, count: int) -> Tensor:
    picked = chosen(vectors, count)
    return distributed.of_first(picked + 0.01 * vectors.std() * torch.randn_like(picked))
