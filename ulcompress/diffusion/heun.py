"""The sampler that looks ahead at every step."""

import itertools

from torch import Tensor

from ulcompress.diffusion.sampler import Denoise, Sampler
from ulcompress.diffusion.schedule import Schedule
from ulcompress.part import loadable


@loadable()
class Heun(Sampler):
    """Heun's method, second order, two calls of the network a step but one in the last.

    A step of DDIM through the mean of two estimates: that of x_t, and that of where DDIM would go from there. This is
    the trapezoidal rule in alpha / sigma, which is zero, and no exception, at pure noise. Source of the method: Karras
    et al., Elucidating the Design Space of Diffusion-Based Generative Models, NeurIPS 2022, algorithm 1, where it is in
    sigma / alpha.
    """

    def sample(self, schedule: Schedule, denoise: Denoise, noisy: Tensor, steps: int, *, start: float = 1.0) -> Tensor:
        """Go from x_t, (B, C, h, w), to a sample in as many steps as the schedule has levels for."""
        levels = [schedule.at(level, noisy) for level in schedule.sampling_levels(steps, start)]
        for level, following in itertools.pairwise(levels):
            clean = denoise(noisy, level)
            ahead = denoise(schedule.step(noisy, clean, level, following), following)
            noisy = schedule.step(noisy, (clean + ahead) / 2, level, following)
        return denoise(noisy, levels[-1])
