"""The contract of a conditioner: what the decoder is told, and what that costs."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.part import Part
from ulcompress.records import Condition, Source


class Conditioner(Part, ABC):
    """Adds fields to the condition of the decoder, with or without side information.

    Conditioners run in the order in which the codec lists them; each sees what the earlier ones provided.
    """

    provides: frozenset[str]
    """Fields of `Condition` that `forward` sets."""
    requires: frozenset[str] = frozenset()
    """Fields of `Condition` that earlier conditioners have to set."""
    feature_channels: int | None = None
    """Channels that it expects of the features; None takes any."""
    feature_stride: int | None = None
    """Pixels a feature position, along each side, that it expects; None takes any."""
    sends: bool = False
    """Whether it has side information; then `encode`, `bits`, `write` and `read` are its own."""

    @abstractmethod
    def forward(self, side: Any, features: Tensor, condition: Condition) -> Condition:
        """Extend the condition from side information and the quantised features (B, C, h, w)."""

    def channels(self, features: int) -> dict[str, int]:
        """Tell the channels of the fields that are set, given those of the features; others are not checked."""
        return {}

    def learns_from_rate(self) -> Iterator[nn.Parameter]:
        """Return the parameters that nothing but the rate can teach: those that tell probabilities."""
        return iter(())

    def prepare(self, captions: list[str]) -> None:
        """Learn tables from the captions of the training set, once, before training."""

    def encode(self, source: Source, condition: Condition) -> Any:
        """Return the side information of a batch; None when nothing is sent."""
        return None

    def nothing(self) -> Any:
        """Return the side information of one image for which nothing shall be sent."""
        return None

    def bits(self, side: Any) -> Tensor | None:
        """Estimate the bits of each image's side information, (B,); None when nothing is sent."""
        return None

    def write(self, side: Any, coder: ArithmeticEncoder) -> None:
        """Code the side information of one image."""

    def read(self, coder: ArithmeticDecoder) -> Any:
        """Read the side information of one image."""
        return None


class AdjustableConditioner(Conditioner, ABC):
    """A conditioner whose side information is a vector of numbers that gradient descent can improve."""

    @abstractmethod
    def quantize(self, values: Tensor) -> Tensor:
        """Turn real values, (B, d), into side information, (B, d), with a gradient; leave as it is what already is."""
