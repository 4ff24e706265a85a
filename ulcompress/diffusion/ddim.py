"""The first-order sampler."""

import itertools

from torch import Tensor

from ulcompress.diffusion.sampler import Denoise, Sampler
from ulcompress.diffusion.schedule import Schedule
from ulcompress.part import loadable


@loadable()
class DDIM(Sampler):
    """Deterministic DDIM (eta 0), first order, one call of the network a step.

    On a straight path this is Euler's method. Source: Song et al., Denoising Diffusion Implicit Models, ICLR 2021,
    equation 12.
    """

    def sample(self, schedule: Schedule, denoise: Denoise, noisy: Tensor, steps: int, *, start: float = 1.0) -> Tensor:
        """Return the sample of x_t, (B, C, h, w), with a step for each of the schedule's sampling levels."""
        levels = [schedule.at(level, noisy) for level in schedule.sampling_levels(steps, start)]
        for level, following in itertools.pairwise(levels):
            noisy = schedule.step(noisy, denoise(noisy, level), level, following)
        return denoise(noisy, levels[-1])
