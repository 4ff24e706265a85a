"""A codebook whose entries are compared by distance."""

import torch
from torch import Tensor, nn

from ulcompress import ranks
from ulcompress.quantizers.codebook import LEAST, ROWS, bound, chosen, k_means, members, revive

VECTORS = 4
"""Of the first batch, an entry that k-means places."""


class EuclideanCodebook(nn.Module):
    """Finds the entry nearest to a vector; entries follow moving averages of the vectors that chose them.

    The first training batch fills it by k-means, of no more entries than the batch has vectors for; the others begin
    beside those. Statistics are summed over ranks. Source: van den Oord et al., NeurIPS 2017, appendix A.1.
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

    @torch.no_grad()
    def nearest(self, vectors: Tensor, bits: Tensor | None = None, rate_weight: float = 0.0) -> Tensor:
        """Return the index of the entry nearest to each vector, (N, dimension) to (N,).

        With `bits`, (N, size), the squared distance and so many times the bits are least together.
        """
        return _nearest(vectors, self.entries, bits, rate_weight)

    @torch.no_grad()
    def fill(self, vectors: Tensor) -> None:
        """Begin with entries for the vectors of the first training batch, (N, dimension)."""
        # As many entries as vectors would leave nothing for a next stage to learn from.
        seeds = min(self.size, max(1, len(vectors) // VECTORS))
        entries = k_means(
            vectors, _drawn(vectors, seeds), self.kmeans_iterations, choose=_nearest, centre=torch.true_divide
        )
        entries = _drawn(entries, self.size) if seeds < self.size else entries
        self.usage.copy_(ranks.summed(vectors.new_tensor(len(vectors))) / self.size)
        self.sums.copy_(entries * self.usage[:, None])
        self.filled.fill_(True)

    @torch.no_grad()
    def follow(self, vectors: Tensor, indices: Tensor) -> None:
        """Move the entries towards the vectors, (N, dimension), that chose them; indices are (N,)."""
        counts, sums = members(vectors, indices, self.size)
        moves = (1 - self.decay) * ((counts > 0) | (self.usage > LEAST)).to(sums.dtype)
        self.usage.lerp_(counts, moves)
        self.sums.lerp_(sums, moves[:, None])
        bound(self.usage, self.sums)
        revive(self.usage, self.sums, self.revive_below, lambda count: _drawn(vectors, count))


def _nearest(vectors: Tensor, entries: Tensor, bits: Tensor | None = None, rate_weight: float = 0.0) -> Tensor:
    half_squares = entries.square().sum(1) / 2
    chosen = []
    for rows in torch.arange(len(vectors), device=vectors.device).split(ROWS):
        closeness = vectors[rows] @ entries.T - half_squares
        if bits is not None:
            closeness = closeness - rate_weight / 2 * bits[rows]
        chosen.append(closeness.argmax(-1))
    return torch.cat(chosen)


def _drawn(vectors: Tensor, count: int) -> Tensor:
    picked = chosen(vectors, count)
    return ranks.of_first(picked + 0.01 * vectors.std() * torch.randn_like(picked))
