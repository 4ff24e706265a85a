"""The way back from noise to a sample."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

from ulcompress.diffusion.schedule import DiscreteSchedule, Schedule
from ulcompress.part import Part

Denoise = Callable[[Tensor, Tensor], Tensor]
"""Maps x_t, (B, C, h, w), and noise levels, (B,), to the estimate of the clean sample x_0, (B, C, h, w)."""


class Sampler(Part, ABC):
    """Solves the diffusion's differential equation from noise to a sample."""

    starts_late: bool
    """Whether it can start at a level other than pure noise."""

    def check(self, schedule: Schedule, start: float) -> None:
        """Raise ValueError where it cannot work on a schedule, or start at that share of the process."""
        if start != 1 and not self.starts_late:
            raise ValueError(f"{type(self).__name__} starts at pure noise, got start={start}; use DDIM, or 1")

    @abstractmethod
    def sample(self, schedule: Schedule, denoise: Denoise, noisy: Tensor, steps: int, *, start: float = 1.0) -> Tensor:
        """Go from noise to a sample in `steps` steps; the same noise, the same sample.

        Args:
            schedule: The diffusion process.
            denoise: The estimate of a network. Where it keeps gradients, so does the sample.
            noisy: x_t at the level `schedule.highest(start)`, (B, C, h, w): pure noise for a start of 1.
            steps: Number of steps.
            start: Share of the process at which sampling begins, more than 0 to 1.

        Raises:
            ValueError: It cannot take that number of steps, or that start.
        """


class DDIM(Sampler):
    """Deterministic DDIM (eta 0), one call of the network a step.

    On a straight path this is Euler's method. Source: Song et al., Denoising Diffusion Implicit Models, ICLR 2021,
    equation 12.
    """

    starts_late = True

    def sample(self, schedule: Schedule, denoise: Denoise, noisy: Tensor, steps: int, *, start: float = 1.0) -> Tensor:
        """Go from x_t, (B, C, h, w), to a sample in as many steps as the schedule has levels for."""
        current = clean = noisy
        for level, following in itertools.pairwise([*schedule.sampling_levels(steps, start), None]):
            assert level is not None
            levels = schedule.at(level, current)
            clean = denoise(current, levels)
            if following is not None:
                alpha, sigma = schedule.coefficients(levels)
                noise = (current - alpha * clean) / sigma
                current = schedule.noisy(clean, noise, schedule.at(following, current))
        return clean


SCHEDULERS = ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "EulerDiscreteScheduler")
"""Deterministic schedulers of diffusers that take x_0 as the prediction."""


class DiffusersSampler(Sampler):
    """Any of diffusers' deterministic solvers on Stable Diffusion's levels, for comparison with DDIM at few steps.

    With zero terminal signal these solvers start at a signal of about 2^-12 instead, since they divide by it. They
    sample from pure noise only: not all of them can begin at a later level.
    """

    starts_late = False

    def __init__(self, *, scheduler: str = "DPMSolverMultistepScheduler"):
        """Take the name of the class, one of `SCHEDULERS`; ValueError for another one."""
        super().__init__()
        if scheduler not in SCHEDULERS:
            raise ValueError(f"scheduler must be one of {', '.join(SCHEDULERS)}, got {scheduler!r}")
        self.scheduler = scheduler

    def check(self, schedule: Schedule, start: float) -> None:
        """Raise ValueError for another schedule than Stable Diffusion's, and for a late start."""
        if not isinstance(schedule, DiscreteSchedule):
            raise ValueError(f"{self.scheduler} needs a DiscreteSchedule, got {type(schedule).__name__}; use DDIM")
        if start != 1:
            raise ValueError(f"{self.scheduler} samples from pure noise only, got start={start}; use DDIM, or start 1")

    def sample(self, schedule: Schedule, denoise: Denoise, noisy: Tensor, steps: int, *, start: float = 1.0) -> Tensor:
        """Go from noise, (B, C, h, w), to a sample in 1 to 1000 steps; ValueError for a start other than 1."""
        import diffusers

        self.check(schedule, start)
        assert isinstance(schedule, DiscreteSchedule)
        if not 1 <= steps <= schedule.length:
            raise ValueError(f"steps must be 1 to {schedule.length}, got {steps}")
        options = {
            "prediction_type": "sample",
            "timestep_spacing": "trailing",
            "lower_order_final": True,
            "final_sigmas_type": "zero",
        }
        solver = getattr(diffusers, self.scheduler).from_config(schedule.scheduler.config, **options)
        solver.set_timesteps(steps, device=noisy.device)
        current = noisy * solver.init_noise_sigma
        for time in solver.timesteps:
            scaled = solver.scale_model_input(current, time)
            clean = denoise(scaled, schedule.at(int(time), scaled))
            current = solver.step(clean, time, current).prev_sample
        return current
