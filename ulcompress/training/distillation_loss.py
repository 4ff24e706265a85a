"""The loss with which a student of few steps is distilled."""

from typing import ClassVar, final

import torch
from torch import Tensor

from ulcompress.codec import Codec
from ulcompress.part import loadable
from ulcompress.training.loss import StageLoss
from ulcompress.training.trajectory import Arrival


@loadable(plain=["weights", "delays"])
@final
class DistillationLoss(StageLoss):
    """Weighs the difference of student and teacher, `trajectory`, and terms on what both restore.

    Source of the adversarial term, whose discriminator tells the student's images from the teacher's: Lin et al.,
    SDXL-Lightning: Progressive Adversarial Diffusion Distillation, arXiv 2402.13929.
    """

    TERMS = frozenset({"trajectory"})
    DEFAULTS: ClassVar = {"trajectory": 1.0, "perceptual": 0.1, "adversarial": 0.01}

    def forward(self, codec: Codec, arrival: Arrival) -> dict[str, Tensor]:
        """Return all terms by name."""
        terms = {"trajectory": arrival.error}
        if self.perceptual is None and self.adversarial is None:
            return terms
        restored = codec.autoencoder.decode(arrival.estimate[: self.images])
        with torch.no_grad():
            reference = codec.autoencoder.decode(arrival.reference[: self.images]).clamp(0, 1)
        return terms | self.image_terms(restored, reference)
