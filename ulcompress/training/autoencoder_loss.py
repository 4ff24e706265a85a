"""The loss with which an autoencoder is trained."""

from typing import Any, ClassVar, final

from torch import Tensor

from ulcompress.losses import AdversarialLoss, PerceptualDistance
from ulcompress.part import loadable
from ulcompress.training.loss import StageLoss


@loadable(plain=["weights", "delays"])
@final
class AutoencoderLoss(StageLoss):
    """Weighs the absolute error, the Kullback-Leibler term of the latent, and terms on the restored image."""

    DEFAULTS: ClassVar = {"absolute_error": 1.0, "kl": 1e-4, "perceptual": 0.1, "adversarial": 0.01}

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
            perceptual: A distance that is added as the term `perceptual`.
            images: Take the terms on images for this many of a batch, which saves time; None for all.
            adversarial: A discriminator that is trained beside the autoencoder, on the same images; adds the terms
                `adversarial` and `discriminator` in training.
            weights: Of the terms `absolute_error`, `kl` (nats a latent element) and those above.
            delays: Optimiser steps before which a term has no weight.

        Raises:
            ValueError: `images` is less than 1, or a name in `weights` or `delays` is no term.
        """
        super().__init__(perceptual=perceptual, images=images, adversarial=adversarial, weights=weights, delays=delays)
        self.check_names({"absolute_error", "kl"})

    def forward(self, posterior: Any, restored: Tensor, images: Tensor) -> dict[str, Tensor]:
        """Return all terms by name.

        Args:
            posterior: Distribution of the raw latent.
            restored: What the autoencoder makes of the images, (B, 3, H, W).
            images: RGB in [0, 1], (B, 3, H, W).
        """
        return {
            "absolute_error": (restored - images).abs().mean(),
            "kl": posterior.kl().mean() / posterior.mean[0].numel(),
            **self.image_terms(restored[: self.images], images[: self.images]),
        }
