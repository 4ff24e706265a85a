"""The contract of an estimate: a decoder's first approximation of its target, before any sampling step."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor

from ulcompress.part import Part
from ulcompress.records import Condition


class Estimate(Part, ABC):
    """Makes a first estimate of the target from the condition, without noise and without steps."""

    requires: frozenset[str]
    """Fields of `Condition` without which it cannot work."""
    condition_channels: dict[str, int]
    """Expected channels of these fields."""
    channels: int
    """Channels of the estimate and of the target."""
    feature_stride: int | None = None
    """Expected pixels per feature position, along each side; None takes any."""
    target_stride: int | None = None
    """Expected pixels per position of the target, along each side; None takes any."""
    added: bool = True
    """Whether the network's output is added to it; otherwise it is the network's input and the start of sampling."""

    @property
    def prepared(self) -> bool:
        """Whether it has learnt from data all that it must before the first step of a training."""
        return True

    def prepare(self, batches: Iterable[tuple[Tensor, Condition]]) -> None:
        """Learn from targets, (B, C, h, w), and their conditions, of all processes of a training."""

    @abstractmethod
    def forward(self, condition: Condition) -> Tensor:
        """Return the estimate on the target's grid, (B, C, h, w)."""
