"""Scalar quantisation with a hyperprior."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.entropy.density import GaussianConditional
from ulcompress.entropy.exact import ACTIVATION_BITS, as_saved, exact, on_grid
from ulcompress.entropy.integers import IntegerTables
from ulcompress.entropy.order import order_of
from ulcompress.functional.content_cache import ContentCache
from ulcompress.functional.division import ceil_div
from ulcompress.functional.straight_through import straight_through
from ulcompress.learned.compressai import CompressAIModel, HyperpriorModel
from ulcompress.part import loadable
from ulcompress.quantizers.base import Quantizer
from ulcompress.records import HyperSymbols, Quantized

SMALLEST = 0.11
"""Lower bound of a scale. A symbol of this scale is nonzero once in 10^5, and is not coded at all."""
SCALES = 64
LATENT_REACH = 127
HYPER_REACH = 31
LARGEST_SYMBOL = 2**20
"""Integers are clamped to this size, which only a broken network needs."""
_COUNTS = 1 << 22


@loadable()
class HyperpriorQuantizer(Quantizer):
    """Rounds features around means and codes them with scales, both predicted from a hyper-latent that is coded first.

        features y ─► hyper-analysis ─► round ─► z ─► hyper-synthesis ─► scales, means
            │                                                               │
            └───────────────────────► round(y - means) ◄────────────────────┘

    The hyper-synthesis runs in exact arithmetic (`entropy.exact`) and all probabilities are integers stored with the
    weights, so a file decodes on every machine; symbols go through the arithmetic coder of the codec. Gradients
    pass straight through the rounding, rates are those of uniform noise. When training crops are so small that every
    position of the hyper-latent lies beside a border, positions inside larger images cost more bits than necessary.

    Source: Minnen, Ballé and Toderici, Joint Autoregressive and Hierarchical Priors for Learned Image Compression,
    NeurIPS 2018, without the context model.
    """

    loss_terms = frozenset({"quantiles"})

    def __init__(self, *, model: HyperpriorModel | None = None):
        """Take the entropy model of `model`, a small mean-scale hyperprior with random weights by default.

        Raises:
            ValueError: The model has none that this class can code.
        """
        super().__init__()
        self.model = model if model is not None else CompressAIModel()
        networks = self.model.hyperprior()
        self.channels = networks.channels
        self.hyper_channels = networks.hyper_channels
        self.ratio = networks.ratio
        self.means = networks.means
        self.analysis = networks.analysis
        self.synthesis = networks.synthesis
        self.prior = networks.prior
        self.gaussian = GaussianConditional(smallest=SMALLEST)
        self.scales: Tensor
        self.latent_counts: Tensor
        self.hyper_counts: Tensor
        table = torch.logspace(math.log2(SMALLEST), 8, SCALES, base=2, dtype=torch.float64)
        self.register_buffer("scales", (on_grid(table) * 2**ACTIVATION_BITS).int())
        self.register_buffer("latent_counts", _gaussian_counts(table))
        self.register_buffer("hyper_counts", self._count_hyper())
        self._cached_tables = ContentCache(_integer_tables)

    def check_state(self) -> None:
        """Raise ValueError for counts that are no valid frequencies."""
        self._tables()

    def learns_from_rate(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the entropy model except the medians, which the loss term `quantiles` trains."""
        return (parameter for name, parameter in self.named_parameters() if not name.endswith("quantiles"))

    def forward(self, features: Tensor) -> Quantized:
        """Quantise features, (B, C, h, w); in training the term `quantiles` fits the prior's medians."""
        return self._relaxed(features) if self.training else self._rounded(features)

    def dequantize(self, symbols: HyperSymbols) -> Tensor:
        """Add the means to the rounded differences, (B, C, h, w)."""
        _, means = self._rows_and_means(symbols.hyper, symbols.latent.shape[-2:])
        return symbols.latent.float() + means.to(symbols.latent.device)

    def anneal(self, features: Tensor, temperature: float, rate: int) -> Quantized:
        """Round at random between floor and ceiling, with a gradient; as the temperature falls, this becomes rounding.

        Stochastic Gumbel annealing: Yang, Bamler and Mandt, Improving Inference for Neural Image Compression, NeurIPS
        2020, section 3.3. The hyper-latent is that of the features.
        """
        hyper = self._hyper_symbols(features)
        scales, means = (part.to(features) for part in self._exact_parameters(hyper, features.shape[-2:]))
        coded = scales > self.scales[0] / 2**ACTIVATION_BITS
        latent = _gumbel_rounded(features - means, temperature) * coded
        likelihood = self.gaussian.likelihood(latent, scales).clamp_min(1e-9)
        bits = (-likelihood.log2() * coded).flatten(1).sum(1) + self._hyper_bits(hyper)
        return Quantized(latent + means, HyperSymbols(latent.detach().round().int(), hyper), bits)

    def write(self, symbols: HyperSymbols, coder: ArithmeticEncoder) -> None:
        """Code the hyper-latent and then the latent of one image."""
        latent, hyper = self._tables()
        positions = _hyper_order(symbols.hyper.shape, by_rows=coder.by_rows)
        rows = self._hyper_rows(symbols.hyper.shape)
        hyper.write(symbols.hyper.cpu().flatten()[positions].tolist(), rows[positions].tolist(), coder)
        rows = self._rows_and_means(symbols.hyper, symbols.latent.shape[-2:])[0].flatten()
        positions = _latent_order(symbols.latent.shape, rows, by_rows=coder.by_rows)
        latent.write(symbols.latent.cpu().flatten()[positions].tolist(), rows[positions].tolist(), coder)

    def read(self, coder: ArithmeticDecoder, grid: tuple[int, int]) -> HyperSymbols:
        """Read the symbols of one image whose features have h by w positions."""
        latent, hyper = self._tables()
        shape = torch.Size((1, self.hyper_channels, *(ceil_div(side, self.ratio) for side in grid)))
        positions = _hyper_order(shape, by_rows=coder.by_rows)
        hyper_symbols = _read(hyper, self._hyper_rows(shape), positions, coder).view(shape)
        rows, _ = self._rows_and_means(hyper_symbols, torch.Size(grid))
        positions = _latent_order(rows.shape, rows.flatten(), by_rows=coder.by_rows)
        return HyperSymbols(_read(latent, rows.flatten(), positions, coder).view(rows.shape), hyper_symbols)

    def _relaxed(self, features: Tensor) -> Quantized:
        """Quantise with the gradients of training, all in floats."""
        self.hyper_counts.copy_(self._count_hyper())
        # The noise is the same whatever memory format the networks before have left.
        features = features.contiguous()
        hyper = self.analysis(self._padded(features)).contiguous()
        hyper_likelihood = self.prior(hyper)
        medians = self._medians(hyper)
        parameters = self.synthesis(_round(hyper - medians) + medians)
        scales, means = self._split(parameters, features.shape[-2:])
        likelihood = self.gaussian(features, scales, means)
        latent = _round(features - means)
        bits = sum(-part.log2().flatten(1).sum(1) for part in (likelihood, hyper_likelihood))
        assert isinstance(bits, Tensor)
        symbols = HyperSymbols(latent.detach().int(), (hyper - medians).detach().round().int())
        return Quantized(latent + means, symbols, bits, {"quantiles": self.prior.loss()})

    def _rounded(self, features: Tensor) -> Quantized:
        """Quantise as a file will hold it; features get the gradient of the latent's bits as if none were rounded."""
        hyper = self._hyper_symbols(features)
        rows, means = (part.to(features.device) for part in self._rows_and_means(hyper, features.shape[-2:]))
        symbols = HyperSymbols(_integers(features.detach() - means) * (rows > 0), hyper)
        costs = torch.from_numpy(self._tables()[0].costs).to(features)
        # Of a symbol beyond the reach, the bits of the escape alone are counted.
        columns = (symbols.latent + LATENT_REACH).where(symbols.latent.abs() <= LATENT_REACH, 2 * LATENT_REACH + 1)
        bits = (costs[rows, columns.long()] * (rows > 0)).flatten(1).sum(1)
        if features.requires_grad:  # an encoder that is trained for a quantiser that stays as it is
            scales = self.scales[rows].to(features) / 2**ACTIVATION_BITS
            likelihood = self.gaussian.likelihood_lower_bound(self.gaussian.likelihood(features - means, scales))
            bits = straight_through((-likelihood.log2() * (rows > 0)).flatten(1).sum(1), bits)
        rounded = straight_through(features, symbols.latent.float() + means)
        return Quantized(rounded, symbols, bits + self._hyper_bits(hyper))

    def _hyper_symbols(self, features: Tensor) -> Tensor:
        hyper = self.analysis(self._padded(features.detach()))
        return _integers(hyper.detach() - self._medians(hyper))

    def _hyper_bits(self, hyper: Tensor) -> Tensor:
        costs = torch.from_numpy(self._tables()[1].costs).to(hyper.device, torch.float32)
        columns = (hyper + HYPER_REACH).where(hyper.abs() <= HYPER_REACH, 2 * HYPER_REACH + 1)
        rows = torch.arange(self.hyper_channels, device=hyper.device)[:, None, None].expand_as(hyper)
        return costs[rows, columns.long()].flatten(1).sum(1)

    def _rows_and_means(self, hyper: Tensor, grid: torch.Size) -> tuple[Tensor, Tensor]:
        """Return the rows of the tables, int64, and the means, float32, of a latent, (B, C, h, w), on the CPU."""
        scales, means = self._exact_parameters(hyper, grid)
        levels = (scales * 2**ACTIVATION_BITS).int()
        return torch.searchsorted(self.scales.cpu(), levels.contiguous()).clamp_max(SCALES - 1), means

    def _exact_parameters(self, hyper: Tensor, grid: torch.Size) -> tuple[Tensor, Tensor]:
        median = as_saved(self._medians(hyper))
        scales, means = self._split(exact(self.synthesis, hyper.cpu().double() + median), grid)
        return scales, means.float()

    def _split(self, parameters: Tensor, grid: torch.Size) -> tuple[Tensor, Tensor]:
        parameters = parameters[..., : grid[0], : grid[1]]
        if not self.means:
            return parameters, torch.zeros_like(parameters)
        scales, means = parameters.chunk(2, 1)
        return scales, means

    def _padded(self, features: Tensor) -> Tensor:
        bottom, right = (-side % self.ratio for side in features.shape[-2:])
        return F.pad(features, (0, right, 0, bottom), mode="replicate")

    def _medians(self, like: Tensor) -> Tensor:
        return self.prior.quantiles[:, 0, 1].detach()[:, None, None].to(like.device)

    def _hyper_rows(self, shape: torch.Size) -> Tensor:
        return torch.arange(shape[1])[:, None, None].expand(shape[1:]).flatten()

    def _tables(self) -> tuple[IntegerTables, IntegerTables]:
        return self._cached_tables(self.latent_counts, self.hyper_counts)

    @torch.no_grad()
    def _count_hyper(self) -> Tensor:
        """Return the prior's probabilities of the integers around its medians, (N, 2 * HYPER_REACH + 2) int32."""
        medians = self.prior.quantiles[:, :, 1:2]
        steps = torch.arange(-HYPER_REACH, HYPER_REACH + 1, device=medians.device)
        likelihood = self.prior.likelihood(medians + steps)[:, 0].double()
        return _counts(likelihood)


def _hyper_order(shape: torch.Size, *, by_rows: bool) -> Tensor:
    """Return the order of a hyper-latent's symbols, (n,): all channels of one position after another."""
    positions = torch.arange(shape.numel()).view(shape[1], -1)
    return positions.flatten() if by_rows else positions[:, order_of(shape[2:], by_rows=False)].T.flatten()


def _latent_order(shape: torch.Size, rows: Tensor, *, by_rows: bool) -> Tensor:
    """Return the order of the latent's symbols that are coded, (n,), given the rows of their tables.

    The widest distributions come first, since a bit takes the most error away there; those of one width are spread.
    """
    positions = torch.arange(shape.numel())
    if not by_rows:
        positions = _hyper_order(shape, by_rows=False)
        positions = positions[rows[positions].argsort(descending=True, stable=True)]
    return positions[rows[positions] > 0]


def _read(tables: IntegerTables, rows: Tensor, positions: Tensor, coder: ArithmeticDecoder) -> Tensor:
    """Read integers at positions, (n,), each by the table of its row; (N,) int32, zero at all other positions."""
    symbols = torch.zeros(len(rows), dtype=torch.int32)
    symbols[positions] = torch.tensor(tables.read(rows[positions].tolist(), coder), dtype=torch.int32)
    return symbols


def _integer_tables(latent_counts: np.ndarray, hyper_counts: np.ndarray) -> tuple[IntegerTables, IntegerTables]:
    return IntegerTables(latent_counts), IntegerTables(hyper_counts)


def _gaussian_counts(scales: Tensor) -> Tensor:
    """Return the probabilities of the integers for each scale, (n, 2 * LATENT_REACH + 2) int32."""
    edges = (torch.arange(-LATENT_REACH, LATENT_REACH + 2, dtype=torch.float64) - 0.5) / scales[:, None]
    # From the lower tail on both sides: near one the differences would lose their digits.
    lower = torch.special.ndtr(-edges.abs())
    likelihood = (lower[:, 1:] - lower[:, :-1]).abs()
    likelihood[:, LATENT_REACH] = 1 - 2 * lower[:, LATENT_REACH]
    return _counts(likelihood)


def _counts(likelihood: Tensor) -> Tensor:
    """Append the remaining probability as that of an escape, and turn all into counts."""
    escape = (1 - likelihood.sum(1, keepdim=True)).clamp_min(0)
    return (torch.cat([likelihood, escape], 1) * _COUNTS).round().int()


def _integers(x: Tensor) -> Tensor:
    return x.round().clamp(-LARGEST_SYMBOL, LARGEST_SYMBOL).int()


def _round(x: Tensor) -> Tensor:
    """Round with the gradient of the identity."""
    return x + (x.round() - x).detach()


def _gumbel_rounded(x: Tensor, temperature: float) -> Tensor:
    low = x.detach().floor()
    rest = (x - low).clamp(1e-5, 1 - 1e-5)
    logits = torch.stack([-torch.atanh(rest), -torch.atanh(1 - rest)], -1) / temperature
    choice = F.gumbel_softmax(logits, tau=temperature)
    return low + choice[..., 1]
