"""Reconstructions of validation images while a codec or an autoencoder is trained."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from callbacks.display import PADDING, show_images
from ulcompress.training import AutoencoderModule, CodecStage, CodedImage

NAME = "reconstructions"


class ReconstructionGrid(Callback):
    """Shows validation images above what is restored of them, in every validation epoch, to all loggers.

    A codec's images go through the bytes of a file; under each is how many, their rate, and the caption. Their name is
    `reconstructions`. The random numbers of the run stay as they are.
    """

    def __init__(self, *, images: int = 4):
        """Show this many validation images, the first ones of the first process."""
        if images < 1:
            raise ValueError(f"got images={images}; give at least 1")
        self.images = images
        self._pairs: list[Tensor] = []
        self._captions: list[str] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raise ValueError for a module that restores no images."""
        if not isinstance(pl_module, (CodecStage, AutoencoderModule)):
            fitting = "use it with CodecModule or AutoencoderModule, or leave it out"
            raise ValueError(f"ReconstructionGrid got a {type(pl_module).__name__}; {fitting}")

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the images of the last validation."""
        self._pairs, self._captions = [], []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Restore the images of a batch, up to the number chosen."""
        wanted = self.images - len(self._pairs)
        # In all processes, since strategies that shard the weights need every one of them to run the network.
        with isolate_rng():
            restored = _restored(pl_module, batch.images[:wanted])
            originals = batch.images[:wanted].float().cpu()
            self._pairs += [_above(*pair) for pair in zip(originals, restored, strict=True)]
            self._captions += _captions(pl_module, batch.captions[:wanted])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hand the images to the loggers."""
        if not self._pairs or trainer.sanity_checking or not trainer.is_global_zero:
            return
        with isolate_rng():
            for logger in trainer.loggers:
                show_images(logger, NAME, self._pairs, self._captions, trainer.global_step)
        self._pairs, self._captions = [], []


def _restored(module: LightningModule, images: Tensor) -> list[Tensor]:
    """Return the reconstructions of a validation batch's first images, each RGB (3, H, W) in [0, 1], on the CPU."""
    if isinstance(module, CodecStage):
        return [coded.restored for coded in module.coded_images[: len(images)]]
    assert isinstance(module, AutoencoderModule)
    autoencoder = module.autoencoder
    with torch.no_grad():
        restored = [autoencoder.decode(autoencoder.encode(image[None]))[0] for image in images]
    return [image.clamp(0, 1).float().cpu() for image in restored]


def _above(original: Tensor, restored: Tensor) -> Tensor:
    return torch.cat([original, torch.ones(3, PADDING, original.shape[2]), restored], 1)


def _captions(module: LightningModule, captions: list[str | None]) -> list[str]:
    """Return what is told about each of a validation batch's first images."""
    if not isinstance(module, CodecStage):
        return [caption or "" for caption in captions]
    return [_cost(coded) for coded in module.coded_images[: len(captions)]]


def _cost(coded: CodedImage) -> str:
    size = len(coded.data)
    return f"{size} bytes, {8 * size / coded.pixels:.4f} bpp" + (f": {coded.caption}" if coded.caption else "")
