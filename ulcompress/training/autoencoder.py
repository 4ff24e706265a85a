"""Training of an autoencoder."""

from typing import Any

import torch
from torch import Tensor

from ulcompress.autoencoders import KLAutoencoder
from ulcompress.part import loadable
from ulcompress.training.acceleration import Acceleration
from ulcompress.training.autoencoder_loss import AutoencoderLoss
from ulcompress.training.base import TrainingModule, mean_psnr
from ulcompress.training.optimizer import ScheduledOptimizer


@loadable()
class AutoencoderModule(TrainingModule):
    """Trains a KL autoencoder on absolute error, a small KL term and, optionally, a perceptual and an adversarial one.

    Source: Rombach et al., CVPR 2022, section 3.1 and appendix G; the weight of the adversarial term is constant here.
    """

    fixed = ("autoencoder", "loss.perceptual", "loss.adversarial")

    def __init__(
        self,
        *,
        autoencoder: KLAutoencoder,
        loss: AutoencoderLoss | None = None,
        optimizer: ScheduledOptimizer | None = None,
        acceleration: Acceleration | None = None,
        seed: int = 0,
    ):
        """Take the parts.

        Args:
            autoencoder: What is trained.
            loss: Its terms and their weights; `AutoencoderLoss` with its defaults if None.
            optimizer: Of the trained parameters; AdamW with its defaults if None.
            acceleration: How the networks are computed.
            seed: Of the noise in training and validation.
        """
        super().__init__(optimizer=optimizer, acceleration=acceleration, seed=seed)
        self.autoencoder = autoencoder
        self.loss = loss if loss is not None else AutoencoderLoss()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the weighted loss of a batch of images, (B, 3, H, W) in [0, 1]."""
        images = batch.images
        posterior = self.autoencoder.posterior(images)
        self.autoencoder.observe(posterior.mode())
        restored = self._decoded(posterior.sample())
        return self.log_terms(self.loss(posterior, restored, images), "train", len(images))

    @torch.no_grad()
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the terms and the PSNR of the posterior's mode."""
        images = batch.images
        posterior = self.autoencoder.posterior(images)
        restored = self._decoded(posterior.mode())
        self.log("val/psnr", mean_psnr(restored, images), prog_bar=True, sync_dist=True, batch_size=len(images))
        self.log_terms(self.loss(posterior, restored, images), "val", len(images))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Log under `val/` what a validation logs."""
        self.validation_step(batch, batch_idx)

    def _decoded(self, raw: Tensor) -> Tensor:
        return self.autoencoder.decode(self.autoencoder.normalize(raw))
