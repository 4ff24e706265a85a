"""A sampler: from noise to a sample."""

import itertools
from collections.abc import Sequence

from torch import Tensor

from ulcompress.diffusion import Schedule
from ulcompress.diffusion.sampler import Denoise
from ulcompress.diffusion.solver import Solver
from ulcompress.part import loadable


@loadable()
class Template(Solver):
    """Euler's method: from level to level with the network's estimate, which is asked once a step."""

    def move(self, schedule: Schedule, denoise: Denoise, noisy: Tensor, levels: Sequence[float]) -> Tensor:
        """Return x_t at the last of the noise levels, (B, C, h, w)."""
        for level, following in itertools.pairwise(schedule.at(level, noisy) for level in levels):
            noisy = schedule.step(noisy, denoise(noisy, level), level, following)
        return noisy
