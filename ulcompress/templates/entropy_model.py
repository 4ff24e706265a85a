"""An entropy model: the probability of symbols."""

from math import prod

import torch
from torch import Tensor

from ulcompress.coding.arithmetic import MAX_ALPHABET, ArithmeticDecoder, ArithmeticEncoder, SymbolTable
from ulcompress.entropy import EntropyModel
from ulcompress.functional import distributed
from ulcompress.part import loadable


@loadable()
class Template(EntropyModel):
    """Codes each symbol by how often training showed it, since the beginning."""

    def __init__(self):
        super().__init__()
        self.counts: Tensor | None
        self.register_buffer("counts", None)

    def build(self, alphabet: int) -> None:
        """Allocate one count a symbol, which starts at one, so that every symbol can be coded."""
        if not 1 <= alphabet <= MAX_ALPHABET:
            raise ValueError(f"got an alphabet of {alphabet}; give 1 to {MAX_ALPHABET} symbols")
        self.counts = torch.ones(alphabet, dtype=torch.int64)

    @torch.no_grad()
    def observe(self, symbols: Tensor) -> None:
        """Count symbols of any shape, those of all processes of a training together."""
        counts = self._built()
        counts += distributed.summed(torch.bincount(symbols.flatten(), minlength=len(counts)))

    @torch.no_grad()
    def fit(self, symbols: Tensor) -> None:
        """Replace the counts by those of symbols that are the same in every process."""
        counts = self._built()
        counts.copy_(torch.bincount(symbols.flatten(), minlength=len(counts)) + 1)

    def bits(self, symbols: Tensor) -> Tensor:
        """Estimate the bits of each image's symbols: (B, ...) integers to (B,)."""
        costs = torch.from_numpy(self._table().costs).float().to(symbols.device)
        return costs[symbols].flatten(1).sum(1)

    def write(self, symbols: Tensor, coder: ArithmeticEncoder) -> None:
        """Code the symbols of one image."""
        table = self._table()
        for symbol in symbols.flatten().tolist():
            table.encode(symbol, coder)

    def read(self, coder: ArithmeticDecoder, shape: tuple[int, ...]) -> Tensor:
        """Read the symbols of one image, (1, *shape)."""
        table = self._table()
        return torch.tensor([table.decode(coder) for _ in range(prod(shape))], dtype=torch.int64).view(1, *shape)

    def _built(self) -> Tensor:
        if self.counts is None:
            raise ValueError("the alphabet is not known yet; call build(alphabet) first")
        return self.counts

    def _table(self) -> SymbolTable:
        """Return integer probabilities, the same on every machine."""
        return SymbolTable.from_counts(self._built().cpu().numpy())
