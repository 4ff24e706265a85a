"""The first-order sampler."""

import itertools
from collections.abc import Sequence

from torch import Tensor

from ulcompress.diffusion.discrete_schedule import DiscreteSchedule
from ulcompress.diffusion.sampler import Denoise
from ulcompress.diffusion.schedule import Schedule
from ulcompress.diffusion.solver import Solver
from ulcompress.part import loadable

SPACINGS = ("trailing", "leading")


@loadable(plain=["spacing"])
class DDIM(Solver):
    """Deterministic DDIM (eta 0), first order, one call of the network a step.

    On a straight path this is Euler's method. Source: Song et al., Denoising Diffusion Implicit Models, ICLR 2021,
    equation 12.
    """

    def __init__(self, *, spacing: str = "trailing"):
        """Choose the levels.

        Args:
            spacing: `trailing`: those of the schedule, from the highest, and a last step to x_0. `leading`: those that
                Stable Diffusion was published with, to reproduce results of its time: the multiples of 1000 / steps,
                plus 1, so that noise of unit variance is taken for x_t at a lower level than it is, and a last step to
                the level 0, whose noise stays (Lin et al., WACV 2024, table 2 and section 3.2).

        Raises:
            ValueError: The spacing is unknown.
        """
        super().__init__()
        if spacing not in SPACINGS:
            raise ValueError(f"spacing must be one of {', '.join(SPACINGS)}, got {spacing!r}")
        self.spacing = spacing
        self.starts_late = spacing == "trailing"

    def check(self, schedule: Schedule, start: float) -> None:
        """Raise ValueError for a late start with leading levels, or for another schedule than was published."""
        if self.spacing == "leading" and (not isinstance(schedule, DiscreteSchedule) or schedule.pure_noise):
            raise ValueError(
                "leading levels begin below the highest, where x_t has signal; give a DiscreteSchedule with "
                "zero_terminal_snr: false, or spacing: trailing"
            )
        super().check(schedule, start)

    def sample(self, schedule: Schedule, denoise: Denoise, noisy: Tensor, steps: int, *, start: float = 1.0) -> Tensor:
        """Return the sample of x_t, (B, C, h, w), with a step for each of the sampling levels."""
        if isinstance(schedule, DiscreteSchedule) and self.spacing == "leading":
            self.check(schedule, start)
            return _lead(schedule, denoise, noisy, steps)
        return super().sample(schedule, denoise, noisy, steps, start=start)

    def move(self, schedule: Schedule, denoise: Denoise, noisy: Tensor, levels: Sequence[float]) -> Tensor:
        """Return x_t at the last of the noise levels, (B, C, h, w)."""
        for level, following in itertools.pairwise(schedule.at(level, noisy) for level in levels):
            noisy = schedule.step(noisy, denoise(noisy, level), level, following)
        return noisy


def _lead(schedule: DiscreteSchedule, denoise: Denoise, noisy: Tensor, steps: int) -> Tensor:
    """Sample at leading levels, from noise that is brought to unit variance."""
    if not 1 <= steps < schedule.length:
        raise ValueError(f"steps must be 1 to {schedule.length - 1} with leading levels, got {steps}")
    spacing = schedule.length // steps
    _, sigma = schedule.coefficients(schedule.at(schedule.highest(), noisy))
    noisy = noisy / sigma
    for step in range(steps - 1, -1, -1):
        level = schedule.at(step * spacing + 1, noisy)
        following = schedule.at(max((step - 1) * spacing + 1, 0), noisy)
        noisy = schedule.step(noisy, denoise(noisy, level), level, following)
    return noisy
