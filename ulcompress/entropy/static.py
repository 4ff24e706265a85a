"""Symbols with fixed probabilities, counted in training."""

import torch
from torch import Tensor

from ulcompress.coding.arithmetic import MAX_ALPHABET, ArithmeticDecoder, ArithmeticEncoder, SymbolTable
from ulcompress.entropy.base import EntropyModel
from ulcompress.entropy.order import in_order, read_map
from ulcompress.functional import distributed
from ulcompress.functional.content_cache import ContentCache
from ulcompress.part import loadable


@loadable()
class StaticEntropy(EntropyModel):
    """Codes each symbol by its frequency in training.

    The buffer `counts`, (alphabet,) int64, is all that it learns; probabilities are derived from it when needed. Once
    more than `memory` symbols are counted, all counts are halved, so that the statistics follow a changing codebook.
    """

    def __init__(self, *, memory: int = 2**20):
        super().__init__()
        self.memory = memory
        self.counts: Tensor | None
        self.register_buffer("counts", None)
        self._cached_table = ContentCache(SymbolTable.from_counts)

    def build(self, alphabet: int) -> None:
        """Allocate one count a symbol; ValueError for too many to code, or `memory` below two symbols for each."""
        if not 1 <= alphabet <= min(MAX_ALPHABET, self.memory // 2):
            raise ValueError(
                f"StaticEntropy got an alphabet of {alphabet} with memory={self.memory}; "
                f"give at least 1 symbol and at most {MAX_ALPHABET}, and a memory of at least twice as many"
            )
        # Counts start at one, so that a symbol that training never showed can still be coded.
        self.counts = torch.ones(alphabet, dtype=torch.int64)

    def check_state(self) -> None:
        """Raise ValueError for counts that are no valid frequencies."""
        if self.counts is not None:
            self._table()

    @torch.no_grad()
    def observe(self, symbols: Tensor) -> None:
        """Count symbols of any shape, those of all ranks together when torch.distributed runs."""
        counts = self._built()
        counts += distributed.summed(self._count(symbols))
        counts.copy_(torch.where(counts.sum() > self.memory, (counts + 1) >> 1, counts))

    @torch.no_grad()
    def fit(self, symbols: Tensor) -> None:
        """Replace the statistics by those of symbols of any shape, which are the same on every rank."""
        self._built().copy_(self._count(symbols) + 1)

    @property
    def costs(self) -> Tensor:
        """The bits of every symbol, (alphabet,), float32, on the CPU."""
        return torch.from_numpy(self._table().costs).float()

    def bits(self, symbols: Tensor) -> Tensor:
        """Return the bits of each image's symbols: (B, ...) to (B,), float32."""
        return self.costs.to(symbols.device)[symbols.long()].flatten(1).sum(1)

    def write(self, symbols: Tensor, coder: ArithmeticEncoder) -> None:
        """Code the symbols of one image, (1, ...)."""
        table = self._table()
        for symbol in in_order(symbols, by_rows=coder.by_rows):
            table.encode(symbol, coder)

    def read(self, coder: ArithmeticDecoder, shape: tuple[int, ...]) -> Tensor:
        """Read the symbols of one image, (1, *shape), int64, on the CPU."""
        return read_map(self._table(), coder, shape)

    def _count(self, symbols: Tensor) -> Tensor:
        counts = self._built()
        seen = torch.bincount(symbols.to(counts.device).flatten(), minlength=len(counts))
        assert len(seen) == len(counts), f"symbol {len(seen) - 1} is outside the alphabet of {len(counts)}"
        return seen

    def _table(self) -> SymbolTable:
        return self._cached_table(self._built())

    def _built(self) -> Tensor:
        if self.counts is None:
            raise ValueError("StaticEntropy does not know its alphabet yet; call build(alphabet) first")
        return self.counts
