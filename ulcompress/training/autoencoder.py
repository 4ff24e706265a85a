"""Training of an autoencoder."""

from typing import Any

import torch
from torch import Tensor

from ulcompress.autoencoders import KLAutoencoder
from ulcompress.losses import AdversarialLoss, PerceptualDistance
from ulcompress.part import loadable
from ulcompress.training.base import TrainingModule, mean_psnr
from ulcompress.training.optimizer import WarmupAdamW

DEFAULT_WEIGHTS = {"absolute_error": 1.0, "kl": 1e-4, "perceptual": 0.1, "adversarial": 0.01}


@loadable(plain=["weights"])
class AutoencoderModule(TrainingModule):
    """Trains a KL autoencoder on absolute error, a small KL term and, optionally, a perceptual and an adversarial one.

    Source: Rombach et al., CVPR 2022, section 3.1 and appendix G; the weight of the adversarial term is constant here.
    """

    fixed = ("autoencoder", "perceptual", "adversarial")

    def __init__(
        self,
        *,
        autoencoder: KLAutoencoder,
        perceptual: PerceptualDistance | None = None,
        perceptual_images: int | None = None,
        adversarial: AdversarialLoss | None = None,
        weights: dict[str, float] | None = None,
        optimizer: WarmupAdamW | None = None,
        seed: int = 0,
    ):
        """Take the parts.

        Args:
            autoencoder: What is trained.
            perceptual: A distance that is added as the term `perceptual`.
            perceptual_images: Take it on this many images of a batch, which saves time; None for all.
            adversarial: A discriminator that is trained beside the autoencoder, on the same images; adds the terms
                `adversarial` and `discriminator` to the training loss.
            weights: Of the terms `absolute_error`, `kl` (nats a latent element) and those of the losses above.
            optimizer: Of the trained parameters; `WarmupAdamW` with its defaults if None.
            seed: Of the noise in training and validation.

        Raises:
            ValueError: In the first training step: a name in `weights` is no term.
        """
        super().__init__(optimizer=optimizer, seed=seed)
        self.autoencoder = autoencoder
        self.perceptual = perceptual
        self.perceptual_images = perceptual_images
        self.adversarial = adversarial
        self.weights = DEFAULT_WEIGHTS | (weights or {})
        self.named = set(weights or {}) - {*DEFAULT_WEIGHTS, "discriminator"}

    def _terms(self, images: Tensor, stage: str) -> dict[str, Tensor]:
        posterior = self.autoencoder.posterior(images)
        if stage == "train":
            self.autoencoder.observe(posterior.mode())
            raw = posterior.sample()
        else:
            raw = posterior.mode()
        restored = self.autoencoder.decode(self.autoencoder.normalize(raw))
        terms = {
            "absolute_error": (restored - images).abs().mean(),
            "kl": posterior.kl().mean() / raw[0].numel(),
        }
        count = self.perceptual_images
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(restored[:count], images[:count]).mean()
        if self.adversarial is not None and stage == "train":
            terms |= self.adversarial(restored[:count], images[:count])
        if stage == "val":
            self.log("val/psnr", mean_psnr(restored, images), prog_bar=True, sync_dist=True, batch_size=len(images))
        return terms

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the weighted loss of a batch of images, (B, 3, H, W) in [0, 1]."""
        terms = self._terms(batch.images, "train")
        self.check_names(terms)
        return self.weighted_sum(terms, self.weights, "train", len(batch.images))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the terms and the PSNR of the posterior's mode."""
        with torch.no_grad():
            self.weighted_sum(self._terms(batch.images, "val"), self.weights, "val", len(batch.images))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Log under `val/` what a validation logs."""
        self.validation_step(batch, batch_idx)
