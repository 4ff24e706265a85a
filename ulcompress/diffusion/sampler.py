"""The way back from noise to a sample."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from ulcompress.diffusion.schedule import NoiseSchedule
from ulcompress.part import Part, loadable

Predict = Callable[[Tensor, Tensor], Tensor]
"""Maps x_t, (B, C, h, w), and times, (B,), to the network's prediction."""


class Sampler(Part, ABC):
    """Solves the diffusion's differential equation from noise to a sample."""

    starts_late: bool
    """Whether it can start at a time other than pure noise."""

    @abstractmethod
    def sample(
        self, schedule: NoiseSchedule, predict: Predict, noise: Tensor, steps: int, *, start: float = 1.0
    ) -> Tensor:
        """Go from noise to a sample in `steps` calls of `predict`; the same noise, the same sample.

        Args:
            schedule: The diffusion process.
            predict: The network. Where it keeps gradients, so does the sample.
            noise: x_t at the time `schedule.time_at(start)`, (B, C, h, w): pure noise for a start of 1.
            steps: Number of calls.
            start: Share of the process at which sampling begins, more than 0 to 1.

        Raises:
            ValueError: It cannot take that number of steps, or that start.
        """


@loadable()
class DDIM(Sampler):
    """Deterministic DDIM (eta 0) at trailing times, for any number of steps.

    Song et al., Denoising Diffusion Implicit Models, ICLR 2021, equation 12; trailing: Lin et al., WACV 2024, table 2.
    """

    starts_late = True

    def sample(
        self, schedule: NoiseSchedule, predict: Predict, noise: Tensor, steps: int, *, start: float = 1.0
    ) -> Tensor:
        """Go from x_t, (B, C, h, w), to a sample in 1 to 1000 steps, or fewer from a later start."""
        length = schedule.time_at(start) + 1
        if not 1 <= steps <= length:
            raise ValueError(f"steps must be 1 to {length}, got {steps}")
        # In integers: diffusers' own rounding adds a time of -1 for some numbers of steps.
        trailing = [*(length * step // steps - 1 for step in range(steps, 0, -1)), None]
        current = noise
        for time, following in itertools.pairwise(trailing):
            times = torch.full((len(noise),), time, device=noise.device)
            clean = schedule.estimate(predict(current, times), current, times)
            if following is None:
                return clean
            # diffusers' own step takes the following time to be 1000 // steps earlier, which trailing times are not
            # unless `steps` divides 1000.
            alpha, sigma = schedule.coefficients(times)
            current = schedule.noisy(clean, (current - alpha * clean) / sigma, torch.full_like(times, following))
        raise AssertionError("there is at least one step")


SCHEDULERS = ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "EulerDiscreteScheduler")
"""Deterministic schedulers of diffusers that know all three predictions."""


@loadable(plain=["scheduler"])
class DiffusersSampler(Sampler):
    """Any of diffusers' deterministic solvers, for comparison with DDIM at few steps.

    With zero terminal signal these solvers start at a signal of about 2^-12 instead, since they divide by it. They
    sample from pure noise only: not all of them can begin at a later time.
    """

    starts_late = False

    def __init__(self, *, scheduler: str = "DPMSolverMultistepScheduler"):
        """Take the name of the class, one of `SCHEDULERS`; ValueError for another one."""
        super().__init__()
        if scheduler not in SCHEDULERS:
            raise ValueError(f"scheduler must be one of {', '.join(SCHEDULERS)}, got {scheduler!r}")
        self.scheduler = scheduler

    def sample(
        self, schedule: NoiseSchedule, predict: Predict, noise: Tensor, steps: int, *, start: float = 1.0
    ) -> Tensor:
        """Go from noise, (B, C, h, w), to a sample in 1 to 1000 steps; ValueError for a start other than 1."""
        import diffusers

        if start != 1:
            raise ValueError(f"{self.scheduler} samples from pure noise only, got start={start}; use DDIM, or start 1")
        if not 1 <= steps <= schedule.length:
            raise ValueError(f"steps must be 1 to {schedule.length}, got {steps}")
        options = {"timestep_spacing": "trailing", "lower_order_final": True, "final_sigmas_type": "zero"}
        solver = getattr(diffusers, self.scheduler).from_config(schedule.scheduler.config, **options)
        solver.set_timesteps(steps, device=noise.device)
        current = noise * solver.init_noise_sigma
        for time in solver.timesteps:
            scaled = solver.scale_model_input(current, time)
            prediction = predict(scaled, time.long().expand(len(noise)))
            current = solver.step(prediction, time, current).prev_sample
        return current
