"""The contract of an entropy model: the probability of symbols."""

from abc import ABC, abstractmethod

from torch import Tensor

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.part import Part


class EntropyModel(Part, ABC):
    """Codes integer symbols below `alphabet` with integer probabilities.

    The part that owns the model calls `build` once, when it is constructed itself, since it knows the alphabet.
    """

    @abstractmethod
    def build(self, alphabet: int) -> None:
        """Allocate what depends on the number of different symbols."""

    @abstractmethod
    def observe(self, symbols: Tensor) -> None:
        """Take symbols of any shape into the statistics; called in training only, reduced over ranks."""

    def fit(self, symbols: Tensor) -> None:
        """Replace the statistics by those of symbols that are the same on every rank, if the model has any."""

    @abstractmethod
    def bits(self, symbols: Tensor) -> Tensor:
        """Estimate the bits of each image's symbols: (B, ...) integers to (B,)."""

    @abstractmethod
    def write(self, symbols: Tensor, coder: ArithmeticEncoder) -> None:
        """Code the symbols of one image, (1, h, w) or (1, n)."""

    @abstractmethod
    def read(self, coder: ArithmeticDecoder, shape: tuple[int, ...]) -> Tensor:
        """Read the symbols of one image; `shape` is (h, w) or (n,), the result (1, *shape), int64."""
