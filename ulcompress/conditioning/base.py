"""The contract of a conditioner: the fields that it adds to the decoder's condition, and the bits that they cost."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.part import Part
from ulcompress.records import Condition, Source


class Conditioner(Part, ABC):
    """Adds fields to the condition of the decoder, with or without side information.

    Conditioners run in the order in which the codec lists them; each may use the fields of the earlier ones.
    """

    provides: frozenset[str]
    """Fields of `Condition` that `forward` sets."""
    requires: frozenset[str] = frozenset()
    """Fields of `Condition` that earlier conditioners have to set."""
    feature_channels: int | None = None
    """Expected channels of the features; None takes any."""
    feature_stride: int | None = None
    """Expected pixels per feature position, along each side; None takes any."""
    sends: bool = False
    """Whether it has side information; it then overrides `encode`, `bits`, `write` and `read`."""

    @classmethod
    def nominal_cost(cls, arguments: Mapping[str, Any]) -> str | None:
        """Say in a phrase what the side information can cost, known before anything is trained; None where nothing is.

        Args:
            arguments: Of the constructor, defaults included, as plain data: no part is built for this, since networks
                of some are downloaded.
        """
        return None

    @abstractmethod
    def forward(self, side: Any, features: Tensor, condition: Condition) -> Condition:
        """Extend the condition from side information and the quantised features (B, C, h, w)."""

    def channels(self, features: int) -> dict[str, int]:
        """Return the channels of the fields that it sets, for features of so many channels; others are not checked."""
        return {}

    def learns_from_rate(self) -> Iterator[nn.Parameter]:
        """Return the parameters that only the rate gives a gradient: those of the probabilities."""
        return iter(())

    def prepare(self, captions: list[str]) -> None:
        """Compute tables from the captions of the training set, once, before training."""

    def encode(self, source: Source, condition: Condition) -> Any:
        """Return the side information of a batch; None when nothing is sent."""
        return None

    def remark(self, caption: str) -> str | None:
        """Say in a sentence what of a caption `encode` leaves out; None where it sends all of it."""
        return None

    def captions(self, side: Any) -> list[str] | None:
        """Return the texts that side information spells, one an image; None where it is no text."""
        return None

    def nothing(self) -> Any:
        """Return the side information of one image that stands for sending none."""
        return None

    def shortenings(self, side: Any) -> Iterator[Any]:
        """Yield ever shorter forms of one image's side information, without itself; the last is `nothing()`."""
        if self.sends:
            yield self.nothing()

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
        """Turn real values, (B, d), into side information, (B, d), with a gradient; idempotent."""
