"""The loss with which an autoencoder is trained."""

from typing import Any, ClassVar, final

from torch import Tensor

from ulcompress.part import loadable
from ulcompress.training.loss import StageLoss


@loadable(plain=["weights", "delays"])
@final
class AutoencoderLoss(StageLoss):
    """Weighs the absolute error, the Kullback-Leibler term of the latent, and terms on the restored image.

    Its terms: `absolute_error`; `kl`, in nats a latent element.
    """

    TERMS = frozenset({"absolute_error", "kl"})
    DEFAULTS: ClassVar = {"absolute_error": 1.0, "kl": 1e-4, "perceptual": 0.1, "adversarial": 0.01}

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
