"""Reconstructions of validation images while a codec or an autoencoder is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torchvision.utils import make_grid

from ulcompress.images import to_pil, write_image
from ulcompress.training import AutoencoderModule, CodecModule

NAME = "reconstructions"


class ReconstructionGrid(Callback):
    """Shows validation images above what is restored of them, in every validation epoch, to all loggers.

    A codec's images go through the bytes of a file. W&B and TensorBoard get the grid as the image `reconstructions`;
    other loggers that have a directory get `reconstructions/step-<step>.png` in it. The random numbers of the run
    stay as they are.
    """

    def __init__(self, *, images: int = 4):
        """Show this many validation images, the first ones of the first process."""
        if images < 1:
            raise ValueError(f"got images={images}; give at least 1")
        self.images = images
        self._pairs: list[Tensor] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raise ValueError for a module that restores no images."""
        if not isinstance(pl_module, (CodecModule, AutoencoderModule)):
            fitting = "use it with CodecModule or AutoencoderModule, or leave it out"
            raise ValueError(f"ReconstructionGrid got a {type(pl_module).__name__}; {fitting}")

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the images of the last validation."""
        self._pairs = []

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
            self._pairs += [torch.stack(pair) for pair in zip(originals, restored, strict=True)]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hand the grid to the loggers."""
        if not self._pairs or trainer.sanity_checking or not trainer.is_global_zero:
            return
        originals_then_restored = torch.stack(self._pairs, 1).flatten(0, 1)
        grid = make_grid(originals_then_restored, nrow=len(self._pairs), pad_value=1.0)
        self._pairs = []
        with isolate_rng():
            for logger in trainer.loggers:
                _show(logger, grid, trainer.global_step)


def _restored(module: LightningModule, images: Tensor) -> list[Tensor]:
    """Return the reconstructions of a validation batch's first images, each RGB (3, H, W) in [0, 1], on the CPU."""
    if isinstance(module, CodecModule):
        return [coded.restored for coded in module.coded_images[: len(images)]]
    assert isinstance(module, AutoencoderModule)
    autoencoder = module.autoencoder
    with torch.no_grad():
        restored = [autoencoder.decode(autoencoder.encode(image[None]))[0] for image in images]
    return [image.clamp(0, 1).float().cpu() for image in restored]


def _show(logger: Logger, grid: Tensor, step: int) -> None:
    if isinstance(logger, WandbLogger):
        logger.log_image(NAME, [to_pil(grid)], step)
    elif isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(NAME, grid, step)
    elif isinstance(directory := getattr(logger, "log_dir", logger.save_dir), str):
        folder = Path(directory) / NAME
        folder.mkdir(parents=True, exist_ok=True)
        write_image(grid, folder / f"step-{step:08d}.png")
