"""The second-order sampler that uses the estimate of the step before."""

from collections.abc import Sequence

from torch import Tensor

from ulcompress.diffusion.sampler import Denoise
from ulcompress.diffusion.schedule import Schedule
from ulcompress.diffusion.solver import Solver
from ulcompress.part import loadable


@loadable()
class DPMSolver(Solver):
    """DPM-Solver++(2M), second order, one call of the network a step.

    Each step is a step of DDIM whose estimate is extrapolated from this and the previous one to the middle of the step
    in log-SNR. The first and the last step, and one after pure noise, whose log-SNR is minus infinity, are DDIM's.
    Source: Lu et al., DPM-Solver++, arXiv 2211.01095, algorithm 2.
    """

    def move(self, schedule: Schedule, denoise: Denoise, noisy: Tensor, levels: Sequence[float]) -> Tensor:
        """Return x_t at the last of the noise levels, (B, C, h, w)."""
        log_snr = [schedule.log_snr(level) for level in levels]
        at = [schedule.at(level, noisy) for level in levels]
        before = None
        for index in range(len(levels) - 1):
            clean = middle = denoise(noisy, at[index])
            if before is not None:
                step, step_before = log_snr[index + 1] - log_snr[index], log_snr[index] - log_snr[index - 1]
                middle = clean + (clean - before) * (step / step_before / 2)
            noisy, before = schedule.step(noisy, middle, at[index], at[index + 1]), clean
        return noisy
