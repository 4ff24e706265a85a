"""What a denoising network predicts, and the clean sample that its prediction implies."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

PREDICTIONS = ("v_prediction", "epsilon", "sample", "velocity")
"""v (Salimans and Ho, Progressive Distillation, ICLR 2022, section 4), the noise, x_0, and the velocity epsilon - x_0
of a straight path (Liu et al., Flow Straight and Fast, ICLR 2023)."""


@dataclass(frozen=True)
class Prediction:
    """A linear combination of the clean sample and the noise, at the noise levels of a batch.

        x_t = alpha x_0 + sigma epsilon,    prediction = clean x_0 + noise epsilon

    All coefficients are (B, 1, 1, 1).
    """

    alpha: Tensor
    sigma: Tensor
    clean: Tensor | float
    """Coefficient of x_0."""
    noise: Tensor | float
    """Coefficient of epsilon."""
    skip: Tensor | float
    """Coefficient of x_t - alpha * estimate in `baseline`."""

    @classmethod
    def of(cls, name: str, alpha: Tensor, sigma: Tensor) -> Prediction:
        """Return the prediction of that name, one of `PREDICTIONS`."""
        energy = alpha.square() + sigma.square()
        coefficients = {
            "v_prediction": (-sigma, alpha, 0.0),
            "epsilon": (0.0, 1.0, sigma / energy),
            "sample": (1.0, 0.0, 0.0),
            "velocity": (-1.0, 1.0, (sigma - alpha) / energy),
        }
        return cls(alpha, sigma, *coefficients[name])

    @property
    def determinant(self) -> Tensor:
        """Minus sigma times the change of the prediction by a change of x_0 under a fixed x_t, (B, 1, 1, 1)."""
        return self.noise * self.alpha - self.clean * self.sigma

    def target(self, clean: Tensor, noise: Tensor) -> Tensor:
        """Return the exact prediction of a clean sample and its noise, (B, C, h, w)."""
        return self.clean * clean + self.noise * noise

    def estimate(self, prediction: Tensor, noisy: Tensor) -> Tensor:
        """Return the x_0 that a prediction for x_t implies, (B, C, h, w)."""
        return (self.noise * noisy - self.sigma * prediction) / self.determinant

    def baseline(self, known: Tensor, noisy: Tensor) -> Tensor:
        """Return the prediction that follows from an estimate of x_0 alone, (B, C, h, w).

        The prediction of x_0 is the estimate; the others are their means under x_t, where x_0 has unit variance around
        the estimate (preconditioning as by Karras et al., Elucidating the Design Space of Diffusion-Based Generative
        Models, NeurIPS 2022, section 5).
        """
        return self.clean * known + self.skip * (noisy - self.alpha * known)
