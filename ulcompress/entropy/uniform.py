"""Symbols that are equally likely."""

from math import log2, prod

import torch
from torch import Tensor

from ulcompress.coding.arithmetic import TOTAL, ArithmeticDecoder, ArithmeticEncoder, SymbolTable
from ulcompress.entropy.base import EntropyModel
from ulcompress.entropy.order import in_order, read_map
from ulcompress.part import loadable


@loadable()
class UniformEntropy(EntropyModel):
    """Codes every symbol with log2(alphabet) bits; has nothing to learn."""

    def __init__(self):
        super().__init__()
        self._symbols: SymbolTable | None = None

    def build(self, alphabet: int) -> None:
        """Make the table of `alphabet` symbols; ValueError below 1 and above 2**24."""
        if alphabet > TOTAL:
            raise ValueError(f"UniformEntropy got an alphabet of {alphabet}; give at most {TOTAL} symbols")
        self._symbols = SymbolTable.uniform(alphabet)

    def observe(self, symbols: Tensor) -> None:
        """Take nothing: there are no statistics."""

    def bits(self, symbols: Tensor) -> Tensor:
        """Return the bits of each image's symbols: (B, ...) to (B,), float32."""
        cost = log2(len(self._built()))
        return torch.full((len(symbols),), cost * prod(symbols.shape[1:]), device=symbols.device)

    def write(self, symbols: Tensor, coder: ArithmeticEncoder) -> None:
        """Code the symbols of one image, (1, ...)."""
        table = self._built()
        for symbol in in_order(symbols, by_rows=coder.by_rows):
            table.encode(symbol, coder)

    def read(self, coder: ArithmeticDecoder, shape: tuple[int, ...]) -> Tensor:
        """Read the symbols of one image, (1, *shape), int64, on the CPU."""
        return read_map(self._built(), coder, shape)

    def _built(self) -> SymbolTable:
        if self._symbols is None:
            raise ValueError("UniformEntropy does not know its alphabet yet; call build(alphabet) first")
        return self._symbols
