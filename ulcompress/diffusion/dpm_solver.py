"""The second-order sampler that uses the estimate of the step before."""

from torch import Tensor

from ulcompress.diffusion.sampler import Denoise, Sampler
from ulcompress.diffusion.schedule import Schedule
from ulcompress.part import loadable


@loadable()
class DPMSolver(Sampler):
    """DPM-Solver++(2M), second order, one call of the network a step.

    Each step is a step of DDIM whose estimate is extrapolated from this and the previous one to the middle of the step
    in log-SNR. The first and the last step, and one after pure noise, whose log-SNR is minus infinity, are DDIM's.
    Source: Lu et al., DPM-Solver++, arXiv 2211.01095, algorithm 2.
    """

    def sample(self, schedule: Schedule, denoise: Denoise, noisy: Tensor, steps: int, *, start: float = 1.0) -> Tensor:
        """Return the sample of x_t, (B, C, h, w), with a step for each of the schedule's sampling levels."""
        sampled = schedule.sampling_levels(steps, start)
        levels, log_snr = (
            [schedule.at(level, noisy) for level in sampled],
            [schedule.log_snr(level) for level in sampled],
        )
        before = None
        for index in range(len(levels) - 1):
            clean = middle = denoise(noisy, levels[index])
            if before is not None:
                step, step_before = log_snr[index + 1] - log_snr[index], log_snr[index] - log_snr[index - 1]
                middle = clean + (clean - before) * (step / step_before / 2)
            noisy, before = schedule.step(noisy, middle, levels[index], levels[index + 1]), clean
        return denoise(noisy, levels[-1])
