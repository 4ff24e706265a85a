"""The discrete noise levels of Stable Diffusion."""

import math

import torch
from torch import Tensor

from ulcompress.diffusion.schedule import Schedule
from ulcompress.part import loadable

BETA_SCHEDULES = ("scaled_linear", "squaredcos_cap_v2", "linear")
BETAS = (0.00085, 0.012)
"""The first and the last beta of Stable Diffusion."""
LENGTH = 1000


@loadable(plain=["beta_schedule"])
class DiscreteSchedule(Schedule):
    """Stable Diffusion's 1000 levels, with the signal of diffusers' `DDIMScheduler`, to the bit.

    With `zero_terminal_snr` the last level has no signal. Source: Lin et al., Common Diffusion Noise Schedules and
    Sample Steps are Flawed, WACV 2024, section 3.1.
    """

    def __init__(
        self, *, beta_schedule: str = "scaled_linear", zero_terminal_snr: bool = True, training_levels: int = 1000
    ):
        """Compute the table.

        Args:
            beta_schedule: Name of diffusers' schedule, `scaled_linear` (Stable Diffusion) or `squaredcos_cap_v2`.
            zero_terminal_snr: Rescale so that the last level is pure noise.
            training_levels: Number of levels that training draws from, a divisor of 1000: evenly spaced, the last one
                included; with 50 of them training draws exactly the levels at which 50 (or 10, 5...) steps sample.

        Raises:
            ValueError: A value is unknown or out of its range.
        """
        super().__init__()
        if beta_schedule not in BETA_SCHEDULES:
            raise ValueError(f"beta_schedule must be one of {', '.join(BETA_SCHEDULES)}, got {beta_schedule!r}")
        self.beta_schedule = beta_schedule
        self.pure_noise = zero_terminal_snr
        self.length = LENGTH
        self._signal = _signal(_betas(beta_schedule), zero_terminal_snr)
        if training_levels < 1 or self.length % training_levels:
            raise ValueError(f"training_levels must divide {self.length}, got {training_levels}; PerCo has 50")
        self.training_levels = training_levels

    def coefficients(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma at integer levels (B,), each (B, 1, 1, 1)."""
        signal = self._signal.to(levels.device)[levels][:, None, None, None]
        return signal.sqrt(), (1 - signal).sqrt()

    def times(self, levels: Tensor) -> Tensor:
        """Return the levels as they are."""
        return levels

    def highest(self, start: float = 1.0) -> int:
        """Return the last level of the first `start` of the process, more than 0 to 1: 999 for 1."""
        if not 0 < start <= 1 or (level := round(start * self.length) - 1) < 0:
            raise ValueError(f"the start must be more than 0 and at most 1, of {self.length} levels, got {start}")
        return level

    def draw(self, count: int, device: torch.device, start: float = 1.0) -> Tensor:
        """Draw random levels, (count,) int64; for a late start all of them are scaled into its part of the process."""
        spacing = self.length // self.training_levels
        levels = (torch.randint(self.training_levels, (count,), device=device) + 1) * spacing
        return (levels * (self.highest(start) + 1) - 1) // self.length

    def sampling_levels(self, steps: int, start: float = 1.0) -> list[float]:
        """Return trailing levels, the highest first (Lin et al., WACV 2024, table 2)."""
        length = self.highest(start) + 1
        if not 1 <= steps <= length:
            raise ValueError(f"steps must be 1 to {length}, got {steps}")
        # In integers: diffusers' rounding adds a time of -1 for some numbers of steps.
        return [length * step // steps - 1 for step in range(steps, 0, -1)]


def _betas(schedule: str) -> Tensor:
    """Return the variance of the noise that each level adds to the one before, (1000,)."""
    first, last = BETAS
    if schedule == "linear":
        return torch.linspace(first, last, LENGTH)
    if schedule == "scaled_linear":
        return torch.linspace(first**0.5, last**0.5, LENGTH) ** 2
    return torch.tensor(
        [min(1 - _cosine((level + 1) / LENGTH) / _cosine(level / LENGTH), 0.999) for level in range(LENGTH)]
    )


def _cosine(time: float) -> float:
    """Return the signal at a time from 0 to 1: Nichol and Dhariwal, Improved DDPM, ICML 2021, equation 17."""
    return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2


def _signal(betas: Tensor, zero_terminal_snr: bool) -> Tensor:
    """Return the signal's variance of each level, alpha squared, (1000,).

    Where the last is to be zero, the signal is shifted and scaled, the first level's kept: Lin et al., WACV 2024,
    algorithm 1, which goes back to the betas.
    """
    signal = torch.cumprod(1.0 - betas, 0)
    if not zero_terminal_snr:
        return signal
    root = signal.sqrt()
    scaled = ((root - root[-1]) * (root[0] / (root[0] - root[-1]))) ** 2
    ratios = torch.cat([scaled[:1], scaled[1:] / scaled[:-1]])
    return torch.cumprod(1.0 - (1 - ratios), 0)
