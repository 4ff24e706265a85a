"""Finite scalar quantisation: a grid of few levels a dimension instead of a learned codebook."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ulcompress.entropy import EntropyModel, StagedEntropy
from ulcompress.entropy.staged import Captions
from ulcompress.functional.straight_through import straight_through
from ulcompress.part import loadable
from ulcompress.quantizers.indexed import IndexQuantizer
from ulcompress.records import Quantized

MARGIN = 1e-3
"""Share of the range that is left out, so that the bounded value never rounds to a level too many."""


@loadable()
class FiniteScalarQuantizer(IndexQuantizer):
    """Bounds each of a few projected channels and rounds it to one of its levels, in [-1, 1].

    With L levels a channel becomes `tanh(x + s) * h - o`, where `h = (L - 1) / 2` less a margin; `o` is 1/2 for an
    even L, else 0; and `s = tan(o / h)`. The result is rounded and divided by `L // 2`.

    Source: Mentzer et al., Finite Scalar Quantization: VQ-VAE Made Simple, ICLR 2024, section 3.1 and the code of
    appendix A.1.
    """

    def __init__(
        self,
        *,
        levels: Sequence[int] = (8, 5, 5, 5),
        channels: int = 320,
        entropy: EntropyModel | StagedEntropy | None = None,
    ):
        """Build the projections.

        Args:
            levels: Number of values of each dimension, at least 2; their product is the number of symbols. The paper
                recommends [8, 6, 5] for about 2^8 symbols, [8, 5, 5, 5] for 2^10, [7, 5, 5, 5, 5] for 2^12,
                [8, 8, 8, 6, 5] for 2^14, [8, 8, 8, 5, 5, 5] for 2^16 (table 1).
            channels: Channels of the features.
            entropy: Probability of the indices; static frequencies by default. The networks of a `ContextModel` learn
                from the term `rate/spatial`, which then needs a weight.

        Raises:
            ValueError: A dimension has fewer than two levels.
        """
        if not levels or min(levels) < 2:
            raise ValueError(f"every dimension needs at least 2 levels, got {list(levels)}")
        super().__init__(size=math.prod(levels), dimension=len(levels), entropy=entropy)
        self.channels = channels
        self.project_in = nn.Linear(channels, len(levels))
        self.project_out = nn.Linear(len(levels), channels)
        self.levels: Tensor
        self.strides: Tensor
        self.register_buffer("levels", torch.tensor(list(levels)), persistent=False)
        strides = [math.prod(levels[:n]) for n in range(len(levels))]
        self.register_buffer("strides", torch.tensor(strides), persistent=False)

    @property
    def entries(self) -> Tensor:
        """The levels of all indices in [-1, 1], (size, dimensions)."""
        return self._codes(self._digits(torch.arange(self.size, device=self.levels.device)))

    def forward(self, features: Tensor, captions: Captions = None) -> Quantized:
        """Quantise features, (B, C, h, w)."""
        with torch.autocast(features.device.type, enabled=False):
            bounded = self._bound(self.project_in(features.float().movedim(1, -1)))
            digits = bounded.detach().round().long() + self._half()
            symbols = (digits * self.strides).sum(-1)
            if self.training:
                self.observe(symbols)
            straight = straight_through(bounded / self._half(), self._codes(digits))
            quantized = self.project_out(straight).movedim(-1, 1)
        return Quantized(quantized, symbols, self.bits(symbols, captions))

    def dequantize(self, symbols: Tensor) -> Tensor:
        """Split indices, (B, h, w), into levels and project to features, (B, C, h, w)."""
        return self.project_out(self._codes(self._digits(symbols))).movedim(-1, 1)

    def _digits(self, symbols: Tensor) -> Tensor:
        return symbols[..., None] // self.strides % self.levels

    def _bound(self, projected: Tensor) -> Tensor:
        """Bound each channel, so that rounding gives the integers from -(L // 2) to (L - 1) // 2."""
        height = (self.levels - 1) * (1 - MARGIN) / 2
        offset = (self.levels % 2 == 0) / 2
        return torch.tanh(projected + torch.tan(offset / height)) * height - offset

    def _half(self) -> Tensor:
        return self.levels // 2

    def _codes(self, digits: Tensor) -> Tensor:
        return (digits - self._half()) / self._half()
