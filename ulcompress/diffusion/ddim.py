"""The first-order sampler."""

import itertools
from collections.abc import Sequence

from torch import Tensor

from ulcompress.diffusion.sampler import Denoise
from ulcompress.diffusion.schedule import Schedule
from ulcompress.diffusion.solver import Solver
from ulcompress.part import loadable


@loadable()
class DDIM(Solver):
    """Deterministic DDIM (eta 0), first order, one call of the network a step.

    On a straight path this is Euler's method. Source: Song et al., Denoising Diffusion Implicit Models, ICLR 2021,
    equation 12.
    """

    def move(self, schedule: Schedule, denoise: Denoise, noisy: Tensor, levels: Sequence[float]) -> Tensor:
        """Return x_t at the last of the noise levels, (B, C, h, w)."""
        for level, following in itertools.pairwise(schedule.at(level, noisy) for level in levels):
            noisy = schedule.step(noisy, denoise(noisy, level), level, following)
        return noisy
