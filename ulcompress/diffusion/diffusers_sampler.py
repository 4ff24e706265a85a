"""The samplers of diffusers."""

from typing import TYPE_CHECKING

from torch import Tensor

from ulcompress.diffusion.discrete_schedule import BETAS, DiscreteSchedule
from ulcompress.diffusion.sampler import Denoise, Sampler
from ulcompress.diffusion.schedule import Schedule
from ulcompress.part import loadable

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

SCHEDULERS = ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "EulerDiscreteScheduler")
"""Deterministic schedulers of diffusers that take x_0 as the prediction."""


@loadable(plain=["scheduler"])
class DiffusersSampler(Sampler):
    """Any of diffusers' deterministic solvers on Stable Diffusion's levels, to compare the other samplers with.

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
        super().check(schedule, start)
        if not isinstance(schedule, DiscreteSchedule):
            raise ValueError(f"{self.scheduler} needs a DiscreteSchedule, got {type(schedule).__name__}; use DDIM")

    def sample(self, schedule: Schedule, denoise: Denoise, noisy: Tensor, steps: int, *, start: float = 1.0) -> Tensor:
        """Return the sample of noise, (B, C, h, w), in 1 to 1000 steps; raises ValueError for a start other than 1."""
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
        solver = getattr(diffusers, self.scheduler).from_config(scheduler_of(schedule).config, **options)
        solver.set_timesteps(steps, device=noisy.device)
        current = noisy * solver.init_noise_sigma
        for time in solver.timesteps:
            scaled = solver.scale_model_input(current, time)
            clean = denoise(scaled, schedule.at(int(time), scaled))
            current = solver.step(clean, time, current).prev_sample
        return current


def scheduler_of(schedule: DiscreteSchedule) -> "DDIMScheduler":
    """Return diffusers' description of the same levels."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    first, last = BETAS
    return DDIMScheduler(
        beta_start=first,
        beta_end=last,
        beta_schedule=schedule.beta_schedule,
        clip_sample=False,
        set_alpha_to_one=True,
        rescale_betas_zero_snr=schedule.pure_noise,
    )
