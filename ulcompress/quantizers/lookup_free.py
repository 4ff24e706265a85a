"""Lookup-free quantisation: the signs of a few projected channels instead of a learned codebook."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ulcompress.entropy import EntropyModel, StagedEntropy
from ulcompress.entropy.staged import Captions
from ulcompress.functional import distributed
from ulcompress.functional.straight_through import straight_through
from ulcompress.part import loadable
from ulcompress.quantizers.codebook import ROWS
from ulcompress.quantizers.indexed import IndexQuantizer
from ulcompress.records import Quantized

MOST_BITS = 18
"""The largest alphabet that the arithmetic coder takes has 2^18 symbols."""


@loadable()
class LookupFreeQuantizer(IndexQuantizer):
    """Replaces each of a few projected channels by its sign; the signs, read as a binary number, are the symbol.

    Gradients pass straight through. Two terms come with the features:

    - `commitment`: mean squared distance of the projected channels from their signs.
    - `lookup_entropy`: E[H(p)] - diversity * H(E[p]) in nats. p is the softmax, over all codes c, of -|z - c|^2 times
      the inverse temperature for a projected vector z. It is low where every choice is clear and all codes are used.

    Both entropies are exact. p is a product over bits, so H(p) is a sum over bits, and the mean of p is one matrix
    product of the first half of the bits with the second: memory grows with 2^bits + vectors * 2^(bits / 2). In
    training E[p] is that of all ranks, with its gradient.

    Source: Yu et al., Language Model Beats Diffusion - Tokenizer is Key to Visual Generation, ICLR 2024, section 3.1.
    """

    loss_terms = frozenset({"commitment", "lookup_entropy"})

    def __init__(
        self,
        *,
        bits: int = 10,
        channels: int = 320,
        inverse_temperature: float = 10.0,
        diversity: float = 1.0,
        entropy: EntropyModel | StagedEntropy | None = None,
    ):
        """Build the projections.

        Args:
            bits: Channels whose signs are kept, 1 to 18; there are 2^bits symbols.
            channels: Channels of the features.
            inverse_temperature: Inverse temperature of the softmax in `lookup_entropy`. Its gradient reaches channels
                up to about one temperature away from zero. Public implementations take 100.
            diversity: Weight of H(E[p]) in `lookup_entropy`.
            entropy: Probability of the indices; static frequencies by default. The networks of a `ContextModel` learn
                from the term `rate/spatial`, which then needs a weight.

        Raises:
            ValueError: `bits` is out of range.
        """
        if not 1 <= bits <= MOST_BITS:
            raise ValueError(f"bits={bits} is out of range; give 1 to {MOST_BITS}")
        super().__init__(size=2**bits, dimension=bits, entropy=entropy)
        self.channels = channels
        self.inverse_temperature = inverse_temperature
        self.diversity = diversity
        self.project_in = nn.Linear(channels, bits)
        self.project_out = nn.Linear(bits, channels)

    @property
    def entries(self) -> Tensor:
        """The signs of all indices, (2^bits, bits)."""
        return _signs(torch.arange(self.size, device=self.project_in.weight.device), self.project_in.out_features)

    def forward(self, features: Tensor, captions: Captions = None) -> Quantized:
        """Quantise features, (B, C, h, w)."""
        with torch.autocast(features.device.type, enabled=False):
            projected = self.project_in(features.float().movedim(1, -1))
            positive = projected.detach() > 0
            symbols = (positive << _places(positive.shape[-1], positive.device)).sum(-1)
            codes = positive * 2.0 - 1
            if self.training:
                self.observe(symbols)
            quantized = self.project_out(straight_through(projected, codes)).movedim(-1, 1)
            losses = {"commitment": F.mse_loss(projected, codes), "lookup_entropy": self._entropy(projected)}
        return Quantized(quantized, symbols, self.bits(symbols, captions), losses)

    def dequantize(self, symbols: Tensor) -> Tensor:
        """Split indices, (B, h, w), into signs and project to features, (B, C, h, w)."""
        return self.project_out(_signs(symbols, self.project_in.out_features)).movedim(-1, 1)

    def _entropy(self, projected: Tensor) -> Tensor:
        # The log-odds of +1 against -1: the squared distances of z from the two differ by 4z.
        log_odds = 4 * self.inverse_temperature * projected.flatten(0, -2)
        mean = _mean_probabilities(log_odds)
        if self.training:
            mean = distributed.mean_with_gradient(mean)
        return _bit_entropies(log_odds).sum(-1).mean() - self.diversity * _entropy(mean)


def _bit_entropies(log_odds: Tensor) -> Tensor:
    """Return the entropy of each bit, nats, same shape; written for large odds, where it vanishes."""
    clear = log_odds.abs()
    return F.softplus(-clear) + clear * torch.sigmoid(-clear)


def _mean_probabilities(log_odds: Tensor) -> Tensor:
    """Average the probabilities of all codes over vectors whose bits have these odds: (N, bits) to (2^bits,)."""
    parts = log_odds.split(ROWS)
    return torch.stack([_sum_of_products(*part.tensor_split(2, dim=-1)) for part in parts]).sum(0) / len(log_odds)


def _sum_of_products(first: Tensor, second: Tensor) -> Tensor:
    return (_probabilities(first).T @ _probabilities(second)).flatten()


def _probabilities(log_odds: Tensor) -> Tensor:
    """Return the probabilities of all codes of these bits: (N, bits) to (N, 2^bits)."""
    bits = log_odds.shape[-1]
    codes = _signs(torch.arange(2**bits, device=log_odds.device), bits)
    return F.softmax(log_odds @ codes.T / 2, dim=-1)


def _entropy(probabilities: Tensor) -> Tensor:
    # The gradient of x log x has no bound at 0, where a float may well arrive.
    return -(probabilities * probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()).sum()


def _signs(symbols: Tensor, bits: int) -> Tensor:
    """Return the bits of symbols as -1 and 1, the least significant first: (...) to (..., bits)."""
    return (symbols[..., None] >> _places(bits, symbols.device) & 1) * 2.0 - 1


def _places(bits: int, device: torch.device) -> Tensor:
    return torch.arange(bits, device=device)
