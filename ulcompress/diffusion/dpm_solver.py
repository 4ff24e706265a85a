"""The sampler that looks back at every step."""

import itertools

from torch import Tensor

from ulcompress.diffusion.sampler import Denoise, Sampler
from ulcompress.diffusion.schedule import Schedule
from ulcompress.part import loadable


@loadable()
class DPMSolver(Sampler):
    """DPM-Solver++(2M), second order, one call of the network a step.

    A step of DDIM through an estimate that the one before extrapolates to the middle of the step in log-SNR. The first
    and the last step, and one after pure noise, whose log-SNR is minus infinity, are DDIM's. Source: Lu et al.,
    DPM-Solver++, arXiv 2211.01095, algorithm 2.
    """

    def sample(self, schedule: Schedule, denoise: Denoise, noisy: Tensor, steps: int, *, start: float = 1.0) -> Tensor:
        """Go from x_t, (B, C, h, w), to a sample in as many steps as the schedule has levels for."""
        levels = schedule.sampling_levels(steps, start)
        widths = [schedule.log_snr(later) - schedule.log_snr(level) for level, later in itertools.pairwise(levels)]
        before = None
        for index, (level, following) in enumerate(itertools.pairwise(schedule.at(level, noisy) for level in levels)):
            clean = middle = denoise(noisy, level)
            if before is not None:
                middle = clean + (clean - before) * (widths[index] / widths[index - 1] / 2)
            noisy, before = schedule.step(noisy, middle, level, following), clean
        return denoise(noisy, schedule.at(levels[-1], noisy))
