"""The second-order sampler that evaluates the network at both ends of a step."""

import itertools
from collections.abc import Sequence

from torch import Tensor

from ulcompress.diffusion.sampler import Denoise
from ulcompress.diffusion.schedule import Schedule
from ulcompress.diffusion.solver import Solver
from ulcompress.part import loadable


@loadable()
class Heun(Solver):
    """Heun's method, second order, two calls of the network a step, one in the last step.

    Each step is a step of DDIM with the mean of two estimates: at x_t, and at the point that DDIM reaches from there.
    This is the trapezoidal rule in alpha / sigma, which is zero at pure noise and needs no special case there. Source
    of the method: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, NeurIPS 2022,
    algorithm 1, where it is in sigma / alpha.
    """

    def move(self, schedule: Schedule, denoise: Denoise, noisy: Tensor, levels: Sequence[float]) -> Tensor:
        """Return x_t at the last of the noise levels, (B, C, h, w)."""
        for level, following in itertools.pairwise(schedule.at(level, noisy) for level in levels):
            clean = denoise(noisy, level)
            ahead = denoise(schedule.step(noisy, clean, level, following), following)
            noisy = schedule.step(noisy, (clean + ahead) / 2, level, following)
        return noisy
