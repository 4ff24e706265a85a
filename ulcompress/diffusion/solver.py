"""Samplers that follow the path of x_t over a list of noise levels."""

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor

from ulcompress.diffusion.sampler import Denoise, Sampler
from ulcompress.diffusion.schedule import Schedule


class Solver(Sampler):
    """A sampler that can move x_t from any noise level to any lower one, and ends with the network's own estimate."""

    @abstractmethod
    def move(self, schedule: Schedule, denoise: Denoise, noisy: Tensor, levels: Sequence[float]) -> Tensor:
        """Return x_t at the last of some falling noise levels from that at the first, (B, C, h, w); one moves nothing.

        The arguments are those of `sample`.
        """

    def sample(self, schedule: Schedule, denoise: Denoise, noisy: Tensor, steps: int, *, start: float = 1.0) -> Tensor:
        """Return the sample of x_t, (B, C, h, w), with a step for each of the schedule's sampling levels."""
        levels = schedule.sampling_levels(steps, start)
        noisy = self.move(schedule, denoise, noisy, levels)
        return denoise(noisy, schedule.at(levels[-1], noisy))
