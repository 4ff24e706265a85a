"""Vector quantisation with a cosine codebook learned by moving averages."""

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from ulcompress.entropy import EntropyModel
from ulcompress.quantizers.indexed import IndexQuantizer
from ulcompress.records import Quantized

ROWS = 8192
"""Vectors that are compared with the codebook at once, so that a large image does not need much memory."""


class VectorQuantizer(IndexQuantizer):
    """Replaces each feature vector by the codebook entry with the largest cosine in a low-dimensional projection.

        features ─► linear ─► unit length ─► nearest entry ─► linear ─► features
                                                  │
                                               symbols

    Gradients pass straight through the choice. Entries follow moving averages of the vectors that chose them, summed
    over ranks. Sources: van den Oord et al., NeurIPS 2017, appendix A.1 (moving averages); Yu et al., ICLR 2022,
    section 3.2 (projection and unit length).
    """

    def __init__(
        self,
        *,
        codebook_size: int = 1024,
        channels: int = 320,
        dimension: int = 32,
        decay: float = 0.99,
        revive_below: float = 0.0,
        centred: bool = False,
        entropy: EntropyModel | None = None,
    ):
        """Build an empty codebook, which the first training batch fills.

        Args:
            codebook_size: Number of entries.
            channels: Channels of the features.
            dimension: Of the projection in which entries live.
            decay: Of the moving averages, a training step.
            revive_below: An entry that is chosen fewer times than this a step, on average, is moved onto a vector of
                the batch; 0 leaves unused entries alone.
            centred: Subtract a running mean from the projected features before they are brought to unit length.
                Otherwise what all features have in common decides the cosine, and few entries are used.
            entropy: Probability of the indices; static frequencies by default.
        """
        super().__init__(size=codebook_size, entropy=entropy)
        self.channels = channels
        self.decay = decay
        self.revive_below = revive_below
        self.project_in = nn.Linear(channels, dimension)
        self.project_out = nn.Linear(dimension, channels)
        self.usage: Tensor
        self.sums: Tensor
        self.filled: Tensor
        self.centred = centred
        self.mean: Tensor
        self.register_buffer("usage", torch.ones(codebook_size))
        self.register_buffer("sums", F.normalize(torch.randn(codebook_size, dimension), dim=-1))
        self.register_buffer("filled", torch.tensor(False))
        self.register_buffer("mean", torch.zeros(dimension))

    @property
    def codebook(self) -> Tensor:
        """The entries, (codebook_size, dimension), of unit length."""
        return F.normalize(self.sums, dim=-1)

    def forward(self, features: Tensor) -> Quantized:
        """Quantise features, (B, C, h, w); the term `commitment` is the mean of 1 - cosine."""
        with torch.autocast(features.device.type, enabled=False):
            projected = self.project_in(features.float().movedim(1, -1))
            if self.training and self.centred:
                self._recentre(projected.detach().flatten(0, -2).mean(0))
            vectors = F.normalize(projected - self.mean, dim=-1)
            flat = vectors.detach().flatten(0, -2)
            if self.training and not self.filled:
                self._fill(flat)
            codebook = self.codebook
            indices = torch.cat([(part @ codebook.T).argmax(-1) for part in flat.split(ROWS)])
            if self.training:
                self._average(flat, indices)
            symbols = indices.view(vectors.shape[:-1])
            if self.training:
                self.entropy.observe(symbols)
            codes = codebook[symbols]
            # Written so that the value is exactly the code, as the decoder will compute it.
            straight = codes + (vectors - vectors.detach())
            commitment = 1 - (vectors * codes).sum(-1).mean()
            quantized = self.project_out(straight).movedim(-1, 1)
        return Quantized(quantized, symbols, self.entropy.bits(symbols), {"commitment": commitment})

    def dequantize(self, symbols: Tensor) -> Tensor:
        """Look up indices, (B, h, w), and project to features, (B, C, h, w)."""
        return self.project_out(self.codebook[symbols]).movedim(-1, 1)

    @torch.no_grad()
    def _recentre(self, mean: Tensor) -> None:
        mean = _reduced(mean) / _ranks()
        self.mean.copy_(torch.lerp(self.mean, mean, 0.1) if self.filled else mean)

    @torch.no_grad()
    def _fill(self, flat: Tensor) -> None:
        self.usage.fill_(len(flat) * _ranks() / len(self.usage))
        self.sums.copy_(_draw(flat, len(self.usage)) * self.usage[:, None])
        self.filled.fill_(True)

    @torch.no_grad()
    def _average(self, flat: Tensor, indices: Tensor) -> None:
        usage = torch.bincount(indices, minlength=len(self.usage)).to(flat.dtype)
        sums = torch.zeros_like(self.sums).index_add_(0, indices, flat)
        self.usage.lerp_(_reduced(usage), 1 - self.decay)
        self.sums.lerp_(_reduced(sums), 1 - self.decay)
        if self.revive_below > 0:
            self._revive(flat)

    def _revive(self, flat: Tensor) -> None:
        dead = (self.usage < self.revive_below).nonzero().flatten()
        if len(dead):
            # The new entry starts with the weight of an average one, or it would die again at once.
            weight = float(self.usage.sum() / len(self.usage))
            self.sums[dead] = weight * _draw(flat, len(dead))
            self.usage[dead] = weight


def _draw(flat: Tensor, count: int) -> Tensor:
    """Draw `count` of the vectors, (N, D), slightly perturbed; the same ones on every rank."""
    chosen = flat[torch.randint(len(flat), (count,), device=flat.device)]
    chosen = F.normalize(chosen + 0.01 * torch.randn_like(chosen), dim=-1)
    if _ranks() > 1:
        distributed.broadcast(chosen, src=0)
    return chosen


def _ranks() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def _reduced(value: Tensor) -> Tensor:
    """Sum over ranks, in place."""
    if _ranks() > 1:
        distributed.all_reduce(value)
    return value
