"""The forward process: how much signal and noise are in x_t at each noise level."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ulcompress.part import Part


class Schedule(Part, ABC):
    """Maps noise levels, one number an image, to the signal and the noise in x_t = alpha x_0 + sigma epsilon."""

    pure_noise: bool
    """Whether x_t has no signal at the highest level."""

    @abstractmethod
    def coefficients(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma at noise levels (B,), each (B, 1, 1, 1)."""

    @abstractmethod
    def times(self, levels: Tensor) -> Tensor:
        """Return noise levels (B,) as the input of denoisers, (B,): from 0, clean, to 999, as in Stable Diffusion."""

    @abstractmethod
    def highest(self, start: float = 1.0) -> float:
        """Return the noise level at which sampling starts, at the share `start` of the process.

        Raises:
            ValueError: The share is not more than 0 and at most 1.
        """

    @abstractmethod
    def draw(self, count: int, device: torch.device, start: float = 1.0) -> Tensor:
        """Draw random levels for training, none above `highest(start)`, (count,)."""

    @abstractmethod
    def sampling_levels(self, steps: int, start: float = 1.0) -> list[float]:
        """Return the noise levels of all sampling steps, falling from `highest(start)`.

        Raises:
            ValueError: There are no levels for this number of steps.
        """

    def noisy(self, clean: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """Return x_t at noise levels (B,), (B, C, h, w)."""
        alpha, sigma = self.coefficients(levels)
        return alpha * clean + sigma * noise

    def step(self, noisy: Tensor, clean: Tensor, levels: Tensor, following: Tensor) -> Tensor:
        """Move x_t from `levels` to the levels `following` with the same x_0, `clean`, and noise; (B, C, h, w)."""
        alpha, sigma = self.coefficients(levels)
        return self.noisy(clean, (noisy - alpha * clean) / sigma, following)

    def origin(self, noisy: Tensor, moved: Tensor, levels: Tensor, following: Tensor) -> Tensor:
        """Return the x_0 with which `step` moves x_t to `moved`, (B, C, h, w)."""
        (alpha, sigma), (next_alpha, next_sigma) = self.coefficients(levels), self.coefficients(following)
        ratio = next_sigma / sigma
        return (moved - ratio * noisy) / (next_alpha - ratio * alpha)

    def log_snr(self, level: float) -> float:
        """Return log(alpha^2 / sigma^2) at a noise level; minus infinity at pure noise."""
        dtype = torch.int64 if isinstance(level, int) else torch.float64
        alpha, sigma = (float(value) for value in self.coefficients(torch.tensor([level], dtype=dtype)))
        return 2 * math.log(alpha / sigma) if alpha > 0 else -math.inf

    def at(self, level: float, like: Tensor) -> Tensor:
        """Return one noise level for every image of a batch, (B,), on its device."""
        dtype = torch.int64 if isinstance(level, int) else torch.float32
        return torch.full((len(like),), level, dtype=dtype, device=like.device)
