"""A vector that is sent with the image and steers how the decoder treats it."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder, SymbolTable
from ulcompress.conditioning.base import AdjustableConditioner
from ulcompress.conditioning.summary import Summary
from ulcompress.functional.content_cache import ContentCache
from ulcompress.functional.straight_through import straight_through
from ulcompress.part import class_of, loadable
from ulcompress.records import Condition, Source

SENT, ABSENT = 0, 1
"""The symbols before a vector."""
_PRESENCE = SymbolTable(np.array([0, 63, 64]))
PACE = 20.0
"""By which means and scales move faster than other parameters: they have further to go than a network's weights."""
RESOLUTION = 2**16
"""Counts of a table, before each symbol gets one more; so no symbol costs much above 16 bits."""


@loadable()
class NeuralSyntax(AdjustableConditioner):
    """Sends a vector of small integers, of the same length for images of all sizes.

        image, base ─► generator ─► bound ─► round ─► bytes ─► integers ─┐
                                             nothing sent, or dropped ─► null ─┴─► syntax

    An element costs what a logistic distribution of its own gives it; both are learnt by the gradient of `bits`, so the
    stream's rate needs a weight in training. Source: CGDM (Kuang et al., ACM MM 2024). That the vector is one of the
    whole image follows from its published rates, which grow by the same bits at every size; those do not tell how it is
    quantised and coded, or that it may be left out.
    """

    provides = frozenset({"syntax"})
    sends = True

    def __init__(self, *, generator: Summary, dropout: float = 0.1, levels: int = 7):
        """Take the generator and build the distributions.

        Args:
            generator: Image and base to a vector: a SyntaxGenerator learns what to tell, TextureEnergy measures it.
            dropout: Share of training samples whose vector the decoder does not see, so that it can do without.
            levels: Largest integer; the others go down to -levels.

        Raises:
            ValueError: There is no level.
        """
        super().__init__()
        if levels < 1:
            raise ValueError(f"levels is {levels}; give at least 1")
        self.generator = generator
        self.dropout = dropout
        self.levels = levels
        self.requires = frozenset({"base"} if generator.sees_base else ())
        self.prior = LogisticPrior(generator.dimension, levels)
        self.null = nn.Parameter(torch.zeros(generator.dimension))

    def check_state(self) -> None:
        """Raise ValueError for counts that are no probabilities."""
        self.prior.check_state()

    @classmethod
    def nominal_cost(cls, arguments: Mapping[str, Any]) -> str:
        """Say how many integers there are, and their bits at equal probabilities."""
        generator, alphabet = arguments["generator"], 2 * arguments["levels"] + 1
        dimension = class_of(generator["class_path"]).nominal_dimension(generator["init_args"])  # pyright: ignore[reportAttributeAccessIssue]
        bits = dimension * math.log2(alphabet)
        vector = f"{dimension} integers of {alphabet} values, coded by learnt frequencies"
        return f"{vector}: {bits:.0f} bits an image where all are equally likely"

    def channels(self, features: int) -> dict[str, int]:
        """As many as the generator gives."""
        return {"syntax": self.generator.dimension}

    def learns_from_rate(self) -> Iterator[nn.Parameter]:
        """Return means and scales of the prior."""
        return self.prior.parameters()

    def encode(self, source: Source, condition: Condition) -> Tensor:
        """Return the integers of each image, (B, d) float32; gradients pass straight through to the generator.

        Raises:
            ValueError: The generator sees a base, but no conditioner before this one provides it.
        """
        with torch.autocast(source.image.device.type, enabled=False):  # as for the quantiser: rounding is delicate
            values = self.generator(source.image, condition.base)
            return self.quantize(self.levels * torch.tanh(values / self.levels))

    def quantize(self, values: Tensor) -> Tensor:
        """Round values, (B, d), to the nearest integers that can be sent; what it returns it leaves as it is."""
        return straight_through(values, values.round().clamp(-self.levels, self.levels))

    def forward(self, side: Tensor | None, features: Tensor, condition: Condition) -> Condition:
        """Set `syntax`, (B, d): the integers, scaled to [-2, 2], or the null vector where nothing is sent.

        In training some samples get the null vector, and the tables follow their distributions; never otherwise, since
        a file must be read with the tables by which it was written.
        """
        if self.training:
            self.prior.refresh()
        if side is None:
            return condition.with_(syntax=self.null.expand(len(features), -1))
        syntax = side.to(self.null) * (2 / self.levels)
        if self.training:
            dropped = (torch.rand(len(side), 1) < self.dropout).to(self.null.device)
            syntax = torch.where(dropped, self.null, syntax)
        return condition.with_(syntax=syntax)

    def bits(self, side: Tensor | None) -> Tensor:
        """Estimate the bits of each image's vector, (B,), with a gradient; (1,) where one image sends nothing."""
        if side is None:
            return self.null.new_full((1,), _PRESENCE.bits(ABSENT))
        return self.prior.bits(side) + _PRESENCE.bits(SENT)

    def write(self, side: Tensor | None, coder: ArithmeticEncoder) -> None:
        """Code the vector of one image, (1, d), or that there is none."""
        _PRESENCE.encode(ABSENT if side is None else SENT, coder)
        if side is not None:
            self.prior.write(side, coder)

    def read(self, coder: ArithmeticDecoder) -> Tensor | None:
        """Read the vector of one image, (1, d) float32 on the CPU; None where there is none."""
        return self.prior.read(coder) if _PRESENCE.decode(coder) == SENT else None


class LogisticPrior(nn.Module):
    """Probabilities of the integers from -levels to levels, for each element of a vector.

        P(k) = (F(k + 1/2) - F(k - 1/2)) / (F(levels + 1/2) - F(-levels - 1/2)),   F(x) = sigmoid((x - mean) / scale)

    The parameters are the means and the logarithms of the scales, both divided by `PACE`.

    Coding goes by the buffer `counts`, (d, 2 * levels + 1) int64, which `refresh` derives from means and scales: no
    float decides a symbol.
    """

    def __init__(self, dimension: int, levels: int):
        super().__init__()
        self.levels = levels
        self.mean = nn.Parameter(torch.zeros(dimension))
        self.log_scale = nn.Parameter(torch.zeros(dimension))
        self.counts: Tensor
        self.register_buffer("counts", torch.zeros(dimension, 2 * levels + 1, dtype=torch.int64))
        self._cached_tables = ContentCache(_symbol_tables)
        self.refresh()

    def check_state(self) -> None:
        """Raise ValueError for counts that are no probabilities."""
        self._tables()

    @torch.no_grad()
    def refresh(self) -> None:
        """Let the tables follow means and scales."""
        integers = torch.arange(-self.levels, self.levels + 1, device=self.mean.device)
        probabilities = torch.exp2(-self._costs(integers[:, None])).T
        self.counts.copy_((RESOLUTION * probabilities).round().long() + 1)

    def bits(self, values: Tensor) -> Tensor:
        """Estimate the bits of integers, (B, d) to (B,): by the distributions in training, else by the tables.

        The gradient, also of what the tables tell, is that of the distributions.
        """
        bits = self._costs(values.to(self.mean)).sum(1)
        return bits if self.training else straight_through(bits, self._table_bits(values).to(bits))

    def write(self, values: Tensor, coder: ArithmeticEncoder) -> None:
        """Code the integers of one image, (1, d)."""
        for table, symbol in zip(self._tables(), self._symbols(values)[0].tolist(), strict=True):
            table.encode(symbol, coder)

    def read(self, coder: ArithmeticDecoder) -> Tensor:
        """Read the integers of one image, (1, d) float32 on the CPU."""
        return torch.tensor([[float(table.decode(coder) - self.levels) for table in self._tables()]])

    def _costs(self, values: Tensor) -> Tensor:
        """Return the bits of each value, (n, d)."""
        largest = self.levels + 0.5
        mass = self._log_mass(values - 0.5, values + 0.5)
        return (self._log_mass(-largest, largest) - mass) / math.log(2)

    def _log_mass(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Return ln(F(high) - F(low)), in a form that stays exact far from the mean."""
        precision = torch.exp(-PACE * self.log_scale)
        a, b = (low - PACE * self.mean) * precision, (high - PACE * self.mean) * precision
        return F.logsigmoid(b) + F.logsigmoid(-a) + torch.log(-torch.expm1(a - b))

    def _table_bits(self, values: Tensor) -> Tensor:
        costs = torch.from_numpy(np.stack([table.costs for table in self._tables()]))
        return costs.gather(1, self._symbols(values).cpu().T).sum(0)

    def _symbols(self, values: Tensor) -> Tensor:
        return values.detach().long() + self.levels

    def _tables(self) -> list[SymbolTable]:
        return self._cached_tables(self.counts)


def _symbol_tables(counts: np.ndarray) -> list[SymbolTable]:
    return [SymbolTable.from_counts(row) for row in counts]
