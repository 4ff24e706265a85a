"""The loss with which an autoencoder learns to imitate another."""

from typing import ClassVar, final

from torch import Tensor

from ulcompress.part import loadable
from ulcompress.training.loss import StageLoss


@loadable(plain=["weights", "delays"])
@final
class ImitationLoss(StageLoss):
    """Weighs the differences of student and teacher: of their latents, and of what they decode from one latent.

    Its terms: `latent`, the squared difference; `picture`, the absolute one; `stages`, that of their layers one by one,
    for two of the same layers, without a weight unless it is set. Terms on images compare the pictures.
    """

    TERMS = frozenset({"latent", "picture", "stages"})
    DEFAULTS: ClassVar = {"latent": 1.0, "picture": 1.0, "stages": 0.0, "perceptual": 0.1, "adversarial": 0.01}

    def compares_pictures(self, step: int) -> bool:
        """Return whether any term but `stages` has a weight at a step; else the student need not code an image."""
        return any(self.weight(name, step) for name in {"latent", "picture", *self._image_names()})

    def forward(self, latents: tuple[Tensor, Tensor], pictures: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Return all terms by name.

        Args:
            latents: Of the student and of the teacher, (B, C, h, w) each.
            pictures: What both make of one latent, RGB, (B, 3, H, W) each.
        """
        restored, reference = pictures
        return {
            "latent": (latents[0] - latents[1]).square().mean(),
            "picture": (restored - reference).abs().mean(),
            **self.image_terms(restored[: self.images], reference[: self.images].clamp(0, 1)),
        }
