"""The contract of a quantiser: features to symbols and back."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.conditioning.base import Conditioner
from ulcompress.part import Part
from ulcompress.records import Quantized


class Quantizer(Part, ABC):
    """Turns features into symbols that an entropy model codes, and symbols into features.

    Where `reads_captions` is true, all methods that code symbols or tell their bits have one more argument, `captions`:
    the texts that the file holds, one an image, empty for none.
    """

    channels: int
    """Channels of the features, in and out."""
    rates: int = 1
    """How many rates an encoder can choose among."""
    divisible: bool = True
    """Whether features can be made of some of the symbols, so that a file can be cut to a size."""
    encoder_arguments: frozenset[str] = frozenset()
    """Names of the constructor arguments that training and encoder alone use: files do not depend on them."""
    loss_terms: frozenset[str] = frozenset()
    """Names of the terms that `Quantized.losses` may have."""

    @property
    def reads_captions(self) -> bool:
        """Whether the probabilities of symbols depend on captions."""
        return False

    def captions(self, conditioners: Mapping[str, Conditioner], sides: Mapping[str, Any]) -> dict[str, list[str]]:
        """Return the argument `captions`, by its name, from side information; nothing for who does not read them."""
        if not self.reads_captions:
            return {}
        texts = (part.captions(sides[name]) for name, part in conditioners.items() if sides.get(name) is not None)
        found = next((captions for captions in texts if captions is not None), None)
        return {} if found is None else {"captions": found}

    def learns_from_rate(self) -> Iterator[nn.Parameter]:
        """Return the parameters that the rate term alone trains: those of a network that predicts probabilities."""
        return iter(())

    def prepare(self, batches: Iterable[Tensor]) -> None:
        """Learn codebooks and other statistics from features, (B, C, h, w), before the first step of a training.

        The default is a forward pass over each batch in training mode, in which they move.
        """
        self.train()
        for features in batches:
            self(features)

    @abstractmethod
    def forward(self, features: Tensor) -> Quantized:
        """Quantise features, (B, C, h, w), at the highest rate; in training mode also update statistics."""

    def mixed(self, features: Tensor, **captions: Sequence[str]) -> Quantized:
        """Quantise each image of a batch at a rate that is drawn for it, so that all rates are trained together."""
        return self(features, **captions)

    def at_rate(self, features: Tensor, rate: int, **captions: Sequence[str]) -> Quantized:
        """Quantise features at one of the quantiser's rates, 1 the lowest; ValueError where there is no such rate."""
        self.check_rate(rate)
        return self(features, **captions)

    def rate_of(self, symbols: Any) -> int:
        """Return the rate at which features were quantised."""
        return self.rates

    def anneal(self, features: Tensor, temperature: float, rate: int, **captions: Sequence[str]) -> Quantized:
        """Quantise features for an iterative search; gradients are more exact the lower the temperature, from 1 to 0.

        The default is `at_rate`, which has no temperature.
        """
        return self.at_rate(features, rate, **captions)

    def filling(
        self, features: Tensor, room: float, long_enough: Callable[[Any], bool], **captions: Sequence[str]
    ) -> Iterator[Any]:
        """Yield several symbols of one image, of which a file takes as many as it has room for, about `room` bits.

        `long_enough` says of symbols that they do not all find room. The default is those of the highest rate alone.
        """
        yield self.at_rate(features, self.rates, **captions).symbols

    @abstractmethod
    def dequantize(self, symbols: Tensor) -> Tensor:
        """Return the features of symbols: exactly `Quantized.features` of the forward pass, (B, C, h, w)."""

    @abstractmethod
    def write(self, symbols: Tensor, coder: ArithmeticEncoder) -> None:
        """Code the symbols of one image."""

    @abstractmethod
    def read(self, coder: ArithmeticDecoder, grid: tuple[int, int]) -> Tensor:
        """Read the symbols of one image whose features have h by w positions."""

    def alphabets(self, symbols: Any) -> list[tuple[Tensor, int]]:
        """Return the symbols that are indices, (B, h, w) each, with the number of different ones; no others."""
        return []

    def fixed_length_bits(self, rows: int, columns: int) -> list[float]:
        """Return the bits of a grid of this size at each rate if all symbols were equally likely.

        Empty for a quantiser whose symbols have no finite range.
        """
        return []

    def check_rate(self, rate: int) -> None:
        """Raise ValueError where there is no such rate."""
        if not 1 <= rate <= self.rates:
            known = "one rate" if self.rates == 1 else f"the rates 1 to {self.rates}"
            raise ValueError(f"got the rate {rate}, but this codec has {known}")
