"""The contract of a decoder: from a condition to a latent, or to an image in pixel space."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor

from ulcompress.part import Part
from ulcompress.records import Condition, Denoised, Sampling


class Decoder(Part, ABC):
    """Samples a target (a latent, or an image in pixel space) from its condition."""

    requires: frozenset[str]
    """Fields of `Condition` without which it cannot work."""
    accepts: frozenset[str]
    """Fields of `Condition` that it can use; the required ones included."""
    channels: int
    """Channels of the target."""
    condition_channels: dict[str, int]
    """Expected channels of fields of the condition, by the names of the fields."""
    feature_stride: int | None = None
    """Expected pixels per feature position, along each side; None takes any."""
    target_stride: int | None = None
    """Expected pixels per position of the target, along each side; None takes any."""

    loss_terms: frozenset[str] = frozenset()
    """Names of the terms that `loss` returns."""

    @property
    def prepared(self) -> bool:
        """Whether it has learnt from data all that it must before the first step of a training."""
        return True

    def prepare(self, batches: Iterable[tuple[Tensor, Condition]]) -> None:
        """Learn from targets, (B, C, h, w), and their conditions, before the first step of a training.

        Statistics must be reduced over the processes of a training, each of which sees its own batches.
        """

    @abstractmethod
    def loss(self, target: Tensor, condition: Condition) -> Denoised:
        """Return the training terms for targets, (B, C, h, w)."""

    @abstractmethod
    def sample(self, condition: Condition, shape: tuple[int, int], sampling: Sampling) -> Tensor:
        """Sample a target of h by w positions, (1, C, h, w), for one image's condition.

        The same seed, 0 if it is None, gives the same noise on every device. Raises ValueError where the decoder cannot
        sample in this way.
        """
