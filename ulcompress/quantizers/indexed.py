"""Base class of the quantisers that map every position to one index into a finite set."""

from math import log2

from torch import Tensor

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.entropy import EntropyModel, StaticEntropy
from ulcompress.quantizers.base import Quantizer


class IndexQuantizer(Quantizer):
    """A quantiser whose symbols are indices, (B, h, w), coded by an entropy model."""

    size: int
    """Number of different indices."""

    def __init__(self, *, size: int, entropy: EntropyModel | None):
        """Attach the entropy model (static by default) for `size` different indices."""
        super().__init__()
        self.size = size
        self.entropy = entropy if entropy is not None else StaticEntropy()
        self.entropy.build(size)

    def write(self, symbols: Tensor, coder: ArithmeticEncoder) -> None:
        """Code the indices of one image, (1, h, w), row by row."""
        self.entropy.write(symbols, coder)

    def read(self, coder: ArithmeticDecoder, grid: tuple[int, int]) -> Tensor:
        """Read the indices of one image, (1, h, w)."""
        return self.entropy.read(coder, grid)

    def alphabets(self, symbols: Tensor) -> list[tuple[Tensor, int]]:
        """Return the indices with the size of their alphabet."""
        return [(symbols, self.size)]

    def fixed_length_bits(self, rows: int, columns: int) -> list[float]:
        """Return the bits of one index for each position of a grid of this size."""
        return [rows * columns * log2(self.size)]
