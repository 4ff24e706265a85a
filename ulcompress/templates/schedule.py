"""A noise schedule: signal and noise at each level."""

import math

import torch
from torch import Tensor

from ulcompress.diffusion import Schedule
from ulcompress.part import loadable

LOWEST = 1e-3
"""The lowest level that training draws, as a share of the start."""


@loadable()
class Template(Schedule):
    """Levels t from 0, clean, to 1, pure noise: alpha = cos(pi t / 2), sigma = sin(pi t / 2), at even distances."""

    pure_noise = True

    def coefficients(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma at levels (B,), each (B, 1, 1, 1)."""
        angle = math.pi / 2 * levels[:, None, None, None]
        return torch.sin(math.pi / 2 - angle), torch.sin(angle)

    def times(self, levels: Tensor) -> Tensor:
        """Return 999 t."""
        return 999 * levels

    def highest(self, start: float = 1.0) -> float:
        """Return t = `start`; ValueError where it is not more than 0 and at most 1."""
        if not 0 < start <= 1:
            raise ValueError(f"the start must be more than 0 and at most 1, got {start}")
        return float(start)

    def draw(self, count: int, device: torch.device, start: float = 1.0) -> Tensor:
        """Draw even levels, none above `start`, (count,)."""
        return start * torch.rand(count, device=device).clamp(min=LOWEST)

    def sampling_levels(self, steps: int, start: float = 1.0) -> list[float]:
        """Return levels at even distances, falling from `start`; ValueError for less than one step."""
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        return [self.highest(start) * (steps - step) / steps for step in range(steps)]
