"""The second-order sampler that evaluates the network at both ends of a step."""

import itertools

from torch import Tensor

from ulcompress.diffusion.sampler import Denoise, Sampler
from ulcompress.diffusion.schedule import Schedule
from ulcompress.part import loadable


@loadable()
class Heun(Sampler):
    """Heun's method, second order, two calls of the network a step, one in the last step.

    Each step is a step of DDIM with the mean of two estimates: at x_t, and at the point that DDIM reaches from there.
    This is the trapezoidal rule in alpha / sigma, which is zero at pure noise and needs no special case there. Source
    of the method: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, NeurIPS 2022,
    algorithm 1, where it is in sigma / alpha.
    """

    def sample(self, schedule: Schedule, denoise: Denoise, noisy: Tensor, steps: int, *, start: float = 1.0) -> Tensor:
        """Return the sample of x_t, (B, C, h, w), with a step for each of the schedule's sampling levels."""
        levels = [schedule.at(level, noisy) for level in schedule.sampling_levels(steps, start)]
        for level, following in itertools.pairwise(levels):
            clean = denoise(noisy, level)
            ahead = denoise(schedule.step(noisy, clean, level, following), following)
            noisy = schedule.step(noisy, (clean + ahead) / 2, level, following)
        return denoise(noisy, levels[-1])
