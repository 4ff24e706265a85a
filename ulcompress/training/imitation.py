"""Training of an autoencoder that does what another one does."""

from typing import Any

import torch
from torch import Tensor, nn

from ulcompress.autoencoders import Autoencoder
from ulcompress.part import loadable
from ulcompress.training.acceleration import Acceleration
from ulcompress.training.base import TrainingModule, mean_psnr
from ulcompress.training.imitation_loss import ImitationLoss
from ulcompress.training.optimizer import ScheduledOptimizer
from ulcompress.training.stage_imitation import stage_difference


@loadable()
class ImitationModule(TrainingModule):
    """Trains an autoencoder to give the latents of a teacher, and the teacher's pictures of latents.

    Codecs that were trained over the teacher then run over the student. The pictures are of latents of images and of
    noisy ones, as diffusion leaves them.
    """

    fixed = ("autoencoder", "loss.perceptual", "loss.adversarial")
    loss: ImitationLoss

    def __init__(
        self,
        *,
        autoencoder: Autoencoder,
        teacher: Autoencoder,
        noise: float = 0.3,
        positions: int = 2048,
        loss: ImitationLoss | None = None,
        optimizer: ScheduledOptimizer | None = None,
        acceleration: Acceleration | None = None,
        seed: int = 0,
    ):
        """Take the parts.

        Args:
            autoencoder: The student, with the latent of the teacher.
            teacher: What it imitates; it stays as it is.
            noise: The largest standard deviation of the noise on the latents that are decoded, drawn for each image.
            positions: About how many positions of each layer's input the term `stages` takes.
            loss: The terms and their weights; `ImitationLoss` with its defaults if None.
            optimizer: Of the student's parameters; AdamW with its defaults if None.
            acceleration: How the networks are computed.
            seed: Of the noise in training and validation.

        Raises:
            ValueError: The latents have different shapes, or `stages` has a weight and the layers are not the same.
        """
        super().__init__(optimizer=optimizer, acceleration=acceleration, seed=seed)
        shapes = [(each.channels, each.stride) for each in (autoencoder, teacher)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"student and teacher need latents of the same channels and stride, got {shapes}")
        self.autoencoder = autoencoder
        self.teacher = teacher.requires_grad_(False)
        self.noise = noise
        self.positions = positions
        self.loss = loss if loss is not None else ImitationLoss()
        if self.loss.weights["stages"] and not _layers(autoencoder) == _layers(teacher) != []:
            raise ValueError(
                "the loss term `stages` needs a student with the layers of the teacher; take TinyAutoencoder with the "
                "teacher's sizes, or give the term the weight 0"
            )
        self.train()

    def train(self, mode: bool = True) -> nn.Module:
        """Keep the teacher in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the weighted loss of a batch of images, (B, 3, H, W) in [0, 1]."""
        return self.log_terms(self.terms(batch.images), "train", len(batch.images))

    @torch.no_grad()
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the terms, and the PSNR of what the student makes of images, to the images."""
        self.log_terms(self.terms(batch.images), "val", len(batch.images))
        restored = self.autoencoder.decode(self.autoencoder.encode(batch.images))
        psnr = mean_psnr(restored, batch.images)
        self.log("val/psnr", psnr, prog_bar=True, sync_dist=True, batch_size=len(batch.images))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Log under `val/` what a validation logs."""
        self.validation_step(batch, batch_idx)

    def terms(self, images: Tensor) -> dict[str, Tensor]:
        """Return the terms of a batch by name; in training, those alone that what has a weight needs."""
        with torch.no_grad():
            latent = self.teacher.encode(images)
            deviation = self.noise * torch.rand(len(images), 1, 1, 1, device=images.device)
            noisy = latent + deviation * torch.randn_like(latent)
        terms = {"stages": self._stages(images, noisy)} if self.loss.weights["stages"] else {}
        if self.loss.compares_pictures(self.global_step) or not self.training:
            with torch.no_grad():
                reference = self.teacher.decode(noisy)
            pictures = (self.autoencoder.decode(noisy), reference)
            terms |= self.loss((self.autoencoder.encode(images), latent), pictures)
        return terms

    def _stages(self, images: Tensor, latent: Tensor) -> Tensor:
        halves = zip(self.autoencoder.stages(), self.teacher.stages(), (images, latent), strict=True)
        return torch.stack([stage_difference(*half, self.positions) for half in halves]).mean()


def _layers(autoencoder: Autoencoder) -> list[list[torch.Size]]:
    """Return the sizes of the parameters of every layer that can be learnt singly."""
    return [[value.shape for value in stage.parameters()] for half in autoencoder.stages() for stage in half]
