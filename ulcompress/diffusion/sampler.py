"""The contract of a sampler: from noise to a sample."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

from ulcompress.diffusion.schedule import Schedule
from ulcompress.part import Part

Denoise = Callable[[Tensor, Tensor], Tensor]
"""Maps x_t, (B, C, h, w), and noise levels, (B,), to the estimate of the clean sample x_0, (B, C, h, w)."""


class Sampler(Part, ABC):
    """Solves the diffusion's differential equation from noise to a sample."""

    starts_late: bool = True
    """Whether it can start at a level other than pure noise."""

    def check(self, schedule: Schedule, start: float) -> None:
        """Raise ValueError where it does not work on a schedule, or cannot start at this share of the process."""
        if start != 1 and not self.starts_late:
            raise ValueError(
                f"{type(self).__name__} samples from pure noise only, got start={start}; use DDIM, or a start of 1"
            )

    @abstractmethod
    def sample(self, schedule: Schedule, denoise: Denoise, noisy: Tensor, steps: int, *, start: float = 1.0) -> Tensor:
        """Turn noise into a sample in `steps` steps; the same noise gives the same sample.

        Args:
            schedule: The diffusion process.
            denoise: The estimate of a network. Where it keeps gradients, so does the sample.
            noisy: x_t at the level `schedule.highest(start)`, (B, C, h, w): pure noise for a start of 1.
            steps: Number of steps.
            start: Share of the process at which sampling begins, more than 0 to 1.

        Raises:
            ValueError: It cannot take this number of steps, or this start.
        """
