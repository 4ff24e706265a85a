"""Finite scalar quantisation: a grid of few levels a dimension instead of a learned codebook."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ulcompress.entropy import EntropyModel
from ulcompress.quantizers.indexed import IndexQuantizer
from ulcompress.records import Quantized


class FiniteScalarQuantizer(IndexQuantizer):
    """Bounds each of a few projected channels and rounds it to one of its levels.

    Source: Mentzer et al., Finite Scalar Quantization: VQ-VAE Made Simple, ICLR 2024, section 3.
    """

    def __init__(
        self,
        *,
        levels: Sequence[int] = (8, 8, 8),
        channels: int = 320,
        entropy: EntropyModel | None = None,
    ):
        """Build the projections.

        Args:
            levels: Number of values of each dimension, at least 2; their product is the number of symbols.
            channels: Channels of the features.
            entropy: Probability of the indices; static frequencies by default.

        Raises:
            ValueError: A dimension has fewer than two levels.
        """
        if not levels or min(levels) < 2:
            raise ValueError(f"every dimension needs at least 2 levels, got {list(levels)}")
        super().__init__(size=math.prod(levels), entropy=entropy)
        self.channels = channels
        self.project_in = nn.Linear(channels, len(levels))
        self.project_out = nn.Linear(len(levels), channels)
        self.levels: Tensor
        self.strides: Tensor
        self.register_buffer("levels", torch.tensor(list(levels)), persistent=False)
        strides = [math.prod(levels[:n]) for n in range(len(levels))]
        self.register_buffer("strides", torch.tensor(strides), persistent=False)

    def forward(self, features: Tensor) -> Quantized:
        """Quantise features, (B, C, h, w)."""
        with torch.autocast(features.device.type, enabled=False):
            position = torch.sigmoid(self.project_in(features.float().movedim(1, -1))) * (self.levels - 1)
            digits = position.detach().round().long()
            symbols = (digits * self.strides).sum(-1)
            straight = self._centre(digits) + (position - position.detach()) * self._step()
            if self.training:
                self.entropy.observe(symbols)
            quantized = self.project_out(straight).movedim(-1, 1)
        return Quantized(quantized, symbols, self.entropy.bits(symbols))

    def dequantize(self, symbols: Tensor) -> Tensor:
        """Split indices, (B, h, w), into levels and project to features, (B, C, h, w)."""
        digits = symbols[..., None] // self.strides % self.levels
        return self.project_out(self._centre(digits)).movedim(-1, 1)

    def _step(self) -> Tensor:
        return 2 / (self.levels - 1)

    def _centre(self, digits: Tensor) -> Tensor:
        return digits * self._step() - 1
