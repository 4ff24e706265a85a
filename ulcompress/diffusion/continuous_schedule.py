"""Continuous noise levels."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ulcompress.diffusion.schedule import Schedule
from ulcompress.part import loadable

PATHS = ("straight", "variance_preserving")
LOWEST = 1e-4
"""The lowest level that training draws, as a share of the start."""


@loadable(plain=["path"])
class ContinuousSchedule(Schedule):
    """Noise levels t from 0, clean, to 1, pure noise, with sampling levels at even distances in log-SNR.

        straight              alpha = 1 - t           sigma = t
        variance_preserving   alpha = cos(pi t / 2)   sigma = sin(pi t / 2)

    Training draws t from a logit-normal distribution. Sources: Liu et al., Flow Straight and Fast, ICLR 2023 (straight
    path); Esser et al., Scaling Rectified Flow Transformers, ICML 2024, section 3.1 (logit-normal); Kingma et al.,
    Variational Diffusion Models, NeurIPS 2021 (log-SNR).
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
            mean: Mean of logit(t) in training; the higher, the more noise.
            deviation: Standard deviation of logit(t) in training.
            log_snr_max: log(alpha^2 / sigma^2) that counts as clean in sampling: the last step ends there.
            log_snr_min: log(alpha^2 / sigma^2) that counts as pure noise in sampling: the first step begins there.
            sampling: Falling levels t of all sampling steps after the first, which is at the start; None takes even
                distances. Sampling then takes all of these levels that lie below its start, or none in a single step.

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
        falling = sampling is None or list(sampling) == sorted(set(sampling), reverse=True)
        if sampling is not None and not (sampling and falling and 0 < min(sampling) <= max(sampling) <= 1):
            raise ValueError(f"sampling must be falling levels above 0, at most 1, got {list(sampling)}")
        self.straight = path == "straight"
        self.mean = mean
        self.deviation = deviation
        self.log_snr_max = log_snr_max
        self.log_snr_min = log_snr_min
        self.sampling = None if sampling is None else [float(level) for level in sampling]

    def coefficients(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma at levels t (B,), each (B, 1, 1, 1)."""
        t = levels[:, None, None, None]
        if self.straight:
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
        levels = torch.sigmoid(self.mean + self.deviation * torch.randn(count, device=device))
        # Without any noise an error of x_0 determines none of the noise or the velocity.
        return start * levels.clamp(min=LOWEST)

    def sampling_levels(self, steps: int, start: float = 1.0) -> list[float]:
        """Return the start and the levels below it, at even distances in log-SNR or those of `sampling`."""
        first = self.highest(start)
        if self.sampling is not None:
            levels = [first, *(level for level in self.sampling if level < first)]
            if steps not in (1, len(levels)):
                raise ValueError(f"this schedule has {len(levels)} sampling levels; got steps={steps}, give that or 1")
            return levels[:steps]
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        begin = max(self.log_snr_min, self.log_snr(first))
        if steps > 1 and begin >= self.log_snr_max:
            raise ValueError(
                f"sampling from start={start} begins with a log-SNR of {begin:.2f}, not below log_snr_max="
                f"{self.log_snr_max}; start higher, raise log_snr_max, or take one step"
            )
        ends = torch.linspace(begin, self.log_snr_max, steps + 1, dtype=torch.float64)
        return [first, *map(self._level, ends[1:-1].tolist())]

    def _level(self, log_snr: float) -> float:
        ratio = math.exp(-log_snr / 2)  # sigma / alpha
        return ratio / (1 + ratio) if self.straight else math.atan(ratio) * 2 / math.pi
