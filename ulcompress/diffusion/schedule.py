"""The forward process: how much signal and noise are in x_t at each noise level."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from ulcompress.part import Part

BETA_SCHEDULES = ("scaled_linear", "squaredcos_cap_v2", "linear")


class Schedule(Part, ABC):
    """Maps noise levels, one number an image, to the signal and the noise in x_t = alpha x_0 + sigma epsilon."""

    pure_noise: bool
    """Whether x_t has no signal at the highest level."""

    @abstractmethod
    def coefficients(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma at noise levels (B,), each (B, 1, 1, 1)."""

    @abstractmethod
    def times(self, levels: Tensor) -> Tensor:
        """Return noise levels (B,) as denoisers see them, (B,): from 0, clean, to 999, as in Stable Diffusion."""

    @abstractmethod
    def highest(self, start: float = 1.0) -> float:
        """Return the noise level at which sampling starts that leaves out all but the first `start` of the process.

        ValueError for a share that is not more than 0 and at most 1.
        """

    @abstractmethod
    def draw(self, count: int, device: torch.device, start: float = 1.0) -> Tensor:
        """Draw random levels for training, none above `highest(start)`, (count,)."""

    @abstractmethod
    def sampling_levels(self, steps: int, start: float = 1.0) -> list[float]:
        """Return the noise levels of the steps of a sampling, the highest first; ValueError for a number of steps that
        it does not have."""

    def noisy(self, clean: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """Return x_t at noise levels (B,), (B, C, h, w)."""
        alpha, sigma = self.coefficients(levels)
        return alpha * clean + sigma * noise

    def at(self, level: float, like: Tensor) -> Tensor:
        """Return one noise level for every image of a batch, (B,), on its device."""
        dtype = torch.int64 if isinstance(level, int) else torch.float32
        return torch.full((len(like),), level, dtype=dtype, device=like.device)


class DiscreteSchedule(Schedule):
    """Stable Diffusion's 1000 levels, their signal fixed by diffusers' table of betas.

    With `zero_terminal_snr` the last level has no signal left. Source: Lin et al., Common Diffusion Noise Schedules and
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
                included; with 50 of them training sees the very levels at which 50 (or 10, 5...) steps sample.

        Raises:
            ValueError: A value is unknown or out of its range.
        """
        super().__init__()
        if beta_schedule not in BETA_SCHEDULES:
            raise ValueError(f"beta_schedule must be one of {', '.join(BETA_SCHEDULES)}, got {beta_schedule!r}")
        self.scheduler = DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule=beta_schedule,
            clip_sample=False,
            set_alpha_to_one=True,
            rescale_betas_zero_snr=zero_terminal_snr,
        )
        self.pure_noise = zero_terminal_snr
        self.length = len(self.scheduler.alphas_cumprod)
        if training_levels < 1 or self.length % training_levels:
            raise ValueError(f"training_levels must divide {self.length}, got {training_levels}; PerCo has 50")
        self.training_levels = training_levels

    def coefficients(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma at integer levels (B,), each (B, 1, 1, 1)."""
        signal = self.scheduler.alphas_cumprod.to(levels.device)[levels][:, None, None, None]
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
        """Draw random levels, (count,) int64; a late start has as many levels, brought into its part of the process."""
        spacing = self.length // self.training_levels
        levels = (torch.randint(self.training_levels, (count,), device=device) + 1) * spacing
        return -(-levels * (self.highest(start) + 1) // self.length) - 1

    def sampling_levels(self, steps: int, start: float = 1.0) -> list[float]:
        """Return trailing levels, the highest first (Lin et al., WACV 2024, table 2)."""
        length = self.highest(start) + 1
        if not 1 <= steps <= length:
            raise ValueError(f"steps must be 1 to {length}, got {steps}")
        # In integers: diffusers' own rounding adds a time of -1 for some numbers of steps.
        return [length * step // steps - 1 for step in range(steps, 0, -1)]


PATHS = ("straight", "variance_preserving")


class ContinuousSchedule(Schedule):
    """Noise levels t from 0, clean, to 1, pure noise, with sampling levels spread evenly over the log-SNR that matters.

        straight              alpha = 1 - t           sigma = t
        variance_preserving   alpha = cos(pi t / 2)   sigma = sin(pi t / 2)

    Training draws t from a logit-normal distribution, and a share of the images at the level where sampling starts.
    Sources: Liu et al., Flow Straight and Fast, ICLR 2023 (straight path); Esser et al., Scaling Rectified Flow
    Transformers, ICML 2024, section 3.1 (logit-normal); Kingma et al., Variational Diffusion Models, NeurIPS 2021
    (log-SNR).
    """

    pure_noise = True

    def __init__(
        self,
        *,
        path: str = "straight",
        mean: float = 0.0,
        deviation: float = 1.0,
        log_snr_max: float = 4.0,
        log_snr_min: float = -4.0,
        sampling: Sequence[float] | None = None,
    ):
        """Set the process.

        Args:
            path: How signal and noise change with t, one of the names above.
            mean: Of logit(t) in training; above 0 there is more noise.
            deviation: Of logit(t) in training.
            log_snr_max: log(alpha^2 / sigma^2) of the last step of a sampling.
            log_snr_min: Of the second step of a sampling; the first step is at pure noise.
            sampling: Levels t of a sampling, the highest first, in place of those between the two ends; a sampling then
                has as many steps, or one.

        Raises:
            ValueError: A value is unknown or out of its range.
        """
        super().__init__()
        if path not in PATHS:
            raise ValueError(f"path must be one of {', '.join(PATHS)}, got {path!r}")
        if deviation <= 0 or log_snr_min >= log_snr_max:
            raise ValueError(
                f"deviation must be positive and log_snr_min below log_snr_max, got {deviation}, {log_snr_min} and "
                f"{log_snr_max}"
            )
        if sampling is not None and (
            not sampling or list(sampling) != sorted(set(sampling), reverse=True) or not 0 < min(sampling)
        ):
            raise ValueError(f"sampling must be falling levels above 0, at most 1, got {list(sampling)}")
        if sampling is not None and max(sampling) > 1:
            raise ValueError(f"sampling must be falling levels above 0, at most 1, got {list(sampling)}")
        self.path = path
        self.mean = mean
        self.deviation = deviation
        self.log_snr_max = log_snr_max
        self.log_snr_min = log_snr_min
        self.sampling = None if sampling is None else [float(level) for level in sampling]

    def coefficients(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma at levels t (B,), each (B, 1, 1, 1)."""
        t = levels[:, None, None, None]
        if self.path == "straight":
            return 1 - t, t
        # The cosine as a sine, which is exactly 0 at pure noise.
        return torch.sin(math.pi / 2 * (1 - t)), torch.sin(math.pi / 2 * t)

    def times(self, levels: Tensor) -> Tensor:
        """Return 999 t."""
        return 999 * levels

    def highest(self, start: float = 1.0) -> float:
        """Return t = `start`."""
        if not 0 < start <= 1:
            raise ValueError(f"the start must be more than 0 and at most 1, got {start}")
        return float(start)

    def draw(self, count: int, device: torch.device, start: float = 1.0) -> Tensor:
        """Draw logit-normal levels, scaled to at most `start`, (count,) float32."""
        return start * torch.sigmoid(self.mean + self.deviation * torch.randn(count, device=device))

    def sampling_levels(self, steps: int, start: float = 1.0) -> list[float]:
        """Return the start, and the levels of even log-SNR below it between the two ends, or those of `sampling`."""
        if self.sampling is not None:
            levels = [level for level in self.sampling if level <= start]
            if steps not in (1, len(levels)):
                raise ValueError(f"this schedule has {len(levels)} sampling levels; got steps={steps}, give that or 1")
            return levels[:steps]
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        ends = torch.linspace(self.log_snr_min, self.log_snr_max, max(steps - 1, 1), dtype=torch.float64)
        inner = [level for level in map(self._level, ends[: steps - 1].tolist()) if level < start]
        if len(inner) < steps - 1:  # a late start has less noise than the lower end: spread the steps below it
            low = self._log_snr(start)
            ends = torch.linspace(low, self.log_snr_max, steps, dtype=torch.float64)
            inner = [self._level(value) for value in ends[1:].tolist()]
        return [self.highest(start), *inner]

    def _level(self, log_snr: float) -> float:
        ratio = math.exp(-log_snr / 2)  # sigma / alpha
        return ratio / (1 + ratio) if self.path == "straight" else math.atan(ratio) * 2 / math.pi

    def _log_snr(self, level: float) -> float:
        alpha, sigma = (float(value) for value in self.coefficients(torch.tensor([level], dtype=torch.float64)))
        return 2 * math.log(alpha / sigma)
