"""The loss with which a student of few steps is distilled."""

from typing import ClassVar, final

import torch
from torch import Tensor

from ulcompress.codec import Codec
from ulcompress.losses import AdversarialLoss, PerceptualDistance
from ulcompress.part import loadable
from ulcompress.training.loss import StageLoss
from ulcompress.training.trajectory import Arrival


@loadable(plain=["weights", "delays"])
@final
class DistillationLoss(StageLoss):
    """Weighs the difference of student and teacher, and terms on what both restore.

    Source of the adversarial term, whose discriminator tells the student's images from the teacher's: Lin et al.,
    SDXL-Lightning: Progressive Adversarial Diffusion Distillation, arXiv 2402.13929.
    """

    DEFAULTS: ClassVar = {"trajectory": 1.0, "perceptual": 0.1, "adversarial": 0.01}

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
            perceptual: A distance between the decoded estimates of student and teacher; added as `perceptual`.
            images: Take the terms on images for this many of a batch, which saves time; None for all.
            adversarial: A discriminator between the same images, which is trained beside the student; adds the terms
                `adversarial` and `discriminator` in training.
            weights: Of the terms: `trajectory` and those above.
            delays: Optimiser steps before which a term has no weight.

        Raises:
            ValueError: `images` is less than 1, or a name in `weights` or `delays` is no term.
        """
        super().__init__(perceptual=perceptual, images=images, adversarial=adversarial, weights=weights, delays=delays)
        self.check_names({"trajectory"})

    def forward(self, codec: Codec, arrival: Arrival) -> dict[str, Tensor]:
        """Return all terms by name."""
        terms = {"trajectory": arrival.error}
        if self.perceptual is None and self.adversarial is None:
            return terms
        restored = codec.autoencoder.decode(arrival.estimate[: self.images])
        with torch.no_grad():
            reference = codec.autoencoder.decode(arrival.reference[: self.images]).clamp(0, 1)
        return terms | self.image_terms(restored, reference)
