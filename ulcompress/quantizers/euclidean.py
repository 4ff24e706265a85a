"""A codebook whose entries are compared by distance."""

import torch
from torch import Tensor, nn

from ulcompress import ranks
from ulcompress.quantizers.codebook import LEAST, ROWS, chosen, k_means, members, revive

VECTORS = 4
"""Of the first batch, an entry that k-means places."""


class EuclideanCodebook(nn.Module):
    """Finds for each vector the nearest entry; entries follow moving averages of the vectors that chose them.

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

    @torch.no_grad()
    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the index of the nearest entry of each vector, (N,), and those entries, (N, dimension).

        In training the entries move afterwards.
        """
        if self.training and not self.filled:
            self._fill(vectors)
        entries = self.entries
        indices = _nearest(vectors, entries)
        if self.training:
            self._average(vectors, indices)
        return indices, entries[indices]

    def _fill(self, vectors: Tensor) -> None:
        # As many entries as vectors would leave nothing for a next stage to learn from.
        seeds = min(self.size, max(1, len(vectors) // VECTORS))
        entries = k_means(
            vectors, _drawn(vectors, seeds), self.kmeans_iterations, choose=_nearest, centre=torch.true_divide
        )
        entries = _drawn(entries, self.size) if seeds < self.size else entries
        self.usage.copy_(ranks.summed(vectors.new_tensor(len(vectors))) / self.size)
        self.sums.copy_(entries * self.usage[:, None])
        self.filled.fill_(True)

    def _average(self, vectors: Tensor, indices: Tensor) -> None:
        counts, sums = members(vectors, indices, self.size)
        moves = (1 - self.decay) * ((counts > 0) | (self.usage > LEAST)).to(sums.dtype)
        self.usage.lerp_(counts, moves)
        self.sums.lerp_(sums, moves[:, None])
        revive(self.usage, self.sums, self.revive_below, lambda count: _drawn(vectors, count))


def _nearest(vectors: Tensor, entries: Tensor) -> Tensor:
    half_squares = entries.square().sum(1) / 2
    return torch.cat([(part @ entries.T - half_squares).argmax(-1) for part in vectors.split(ROWS)])


def _drawn(vectors: Tensor, count: int) -> Tensor:
    picked = chosen(vectors, count)
    return ranks.of_first(picked + 0.01 * vectors.std() * torch.randn_like(picked))
