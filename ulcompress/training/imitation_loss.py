"""The loss with which an autoencoder learns to imitate another."""

from typing import ClassVar, final

from torch import Tensor

from ulcompress.losses import AdversarialLoss, PerceptualDistance
from ulcompress.part import loadable
from ulcompress.training.loss import StageLoss


@loadable(plain=["weights", "delays"])
@final
class ImitationLoss(StageLoss):
    """Weighs the differences of student and teacher: of their latents, and of what they decode from one latent."""

    DEFAULTS: ClassVar = {"latent": 1.0, "picture": 1.0, "perceptual": 0.1, "adversarial": 0.01}

    def __init__(
        self,
        *,
        perceptual: PerceptualDistance | None = None,
        images: int | None = None,
        adversarial: AdversarialLoss | None = None,
        weights: dict[str, float] | None = None,
        delays: dict[str, int] | None = None,
    ):
        """Take the parts.

        Args:
            perceptual: A distance between the pictures of student and teacher; added as the term `perceptual`.
            images: Take the terms on images for this many of a batch, which saves time; None for all.
            adversarial: A discriminator between the same pictures, which is trained beside the student; adds the terms
                `adversarial` and `discriminator` in training.
            weights: Of the terms: `latent`, the squared difference; `picture`, the absolute one; and those above.
            delays: Optimiser steps before which a term has no weight.

        Raises:
            ValueError: `images` is less than 1, or a name in `weights` or `delays` is no term.
        """
        super().__init__(perceptual=perceptual, images=images, adversarial=adversarial, weights=weights, delays=delays)
        self.check_names({"latent", "picture"})

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
