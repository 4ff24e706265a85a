"""The contract of an estimate: what a decoder knows of its target before it starts."""

from abc import ABC, abstractmethod

from torch import Tensor

from ulcompress.part import Part
from ulcompress.records import Condition


class Estimate(Part, ABC):
    """Makes a first estimate of the target from the condition, without noise and without steps."""

    requires: frozenset[str]
    """Fields of `Condition` without which it cannot work."""
    condition_channels: dict[str, int]
    """Channels that it expects of these fields."""
    channels: int
    """Of the estimate, which are those of the target."""
    feature_stride: int | None = None
    """Pixels a feature position, along each side, that it expects; None takes any."""
    target_stride: int | None = None
    """Pixels a position of the target, along each side, that it expects; None takes any."""
    added: bool = True
    """Whether the network's output is added to it; otherwise the network sees it, and sampling starts from it."""

    @abstractmethod
    def forward(self, condition: Condition) -> Tensor:
        """Return the estimate on the target's grid, (B, C, h, w)."""
