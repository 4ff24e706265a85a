"""The contract of a caption coder: texts to symbols to bits, and back."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.conditioning.byte_pairs import BytePairs
from ulcompress.part import Part


class CaptionCoder(Part, ABC):
    """Codes short texts; text encoders see them as tokens of its vocabulary.

    The buffer `prepared` is true once vocabulary and probabilities have been learnt.
    """

    vocabulary: BytePairs
    prepared: Tensor
    max_tokens: int | None
    """Most tokens of a text that it codes; None where another limit holds."""
    limit: str
    """The longest text, in words."""

    @classmethod
    @abstractmethod
    def nominal_cost(cls, arguments: Mapping[str, Any]) -> str:
        """Say in a phrase what a caption can cost, from the constructor's arguments."""

    @abstractmethod
    def prepare(self, texts: list[str]) -> None:
        """Learn vocabulary and probabilities from all texts of the training set, the same on every rank."""

    @abstractmethod
    def fits(self, text: str) -> bool:
        """Whether a text is coded to its end."""

    @abstractmethod
    def tokens(self, text: str) -> list[int]:
        """Return the tokens of what is coded of a text; none for an empty one."""

    def text(self, tokens: list[int]) -> str:
        """Return the text of tokens: encoder and decoder both use this text."""
        return self.vocabulary.decode(tokens)

    @abstractmethod
    def bits(self, tokens: list[list[int]]) -> Tensor:
        """Estimate the bits of B texts, (B,)."""

    @abstractmethod
    def write(self, tokens: list[int], coder: ArithmeticEncoder) -> None:
        """Code one text, as `tokens` returned it."""

    @abstractmethod
    def read(self, coder: ArithmeticDecoder) -> list[int]:
        """Read the tokens of one text; of a message that was cut inside it, those that are there."""
