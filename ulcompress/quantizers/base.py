"""The contract of a quantiser: features to symbols and back."""

from abc import ABC, abstractmethod

from torch import Tensor

from ulcompress.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.part import Part
from ulcompress.records import Quantized, StreamSpec


class Quantizer(Part, ABC):
    """Turns features into symbols that an entropy model codes, and symbols into features."""

    channels: int
    """Channels of the features, in and out."""

    @abstractmethod
    def forward(self, features: Tensor) -> Quantized:
        """Quantise features, (B, C, h, w); in training mode also update statistics."""

    def anneal(self, features: Tensor, temperature: float) -> Quantized:
        """Quantise features with gradients for a search, which are better the lower the temperature (0 to 1) gets.

        What `forward` does, unless a quantiser has something better.
        """
        return self(features)

    @abstractmethod
    def dequantize(self, symbols: Tensor) -> Tensor:
        """Return the features of symbols: exactly `Quantized.features` of the forward pass, (B, C, h, w)."""

    @abstractmethod
    def write(self, symbols: Tensor, coder: ArithmeticEncoder) -> None:
        """Code the symbols of one image."""

    @abstractmethod
    def read(self, coder: ArithmeticDecoder, grid: tuple[int, int]) -> Tensor:
        """Read the symbols of one image whose features have h by w positions."""

    def stream(self) -> StreamSpec | None:
        """Tell how to read the stream with tables alone, the stride left to the codec; None where that cannot be."""
        return None
