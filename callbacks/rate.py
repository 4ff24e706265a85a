"""The rate of files that are written while a codec is trained."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng

from ulcompress.training import CodecStage, CodedImage


class RateLogger(Callback):
    """Compresses validation images in every validation epoch and logs what their files cost, in bits a pixel.

    `bpp/file` is eight times the size of the file by the pixels, header included. `bpp/<stream>` is the share of one
    stream, read back from that file. Estimated rates of training and validation steps are logged by `CodecModule` as
    `rate/<stream>`. The random numbers of the run stay as they are.
    """

    def __init__(self, *, images: int = 8):
        """Compress this many validation images, the first ones, in each process."""
        if images < 1:
            raise ValueError(f"got images={images}; give at least 1")
        self.images = images
        self._rates: list[dict[str, float]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raise ValueError for a module that trains no codec."""
        _module(pl_module)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the images of the last validation."""
        self._rates = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Compress the images of a batch, up to the number chosen."""
        wanted = self.images - len(self._rates)
        with isolate_rng():
            self._rates += [file_rates(coded) for coded in _module(pl_module).coded_images[:wanted]]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the means over the images, and over the processes."""
        names = self._rates[0] if self._rates else {}
        means = {f"bpp/{name}": sum(rate[name] for rate in self._rates) / len(self._rates) for name in names}
        pl_module.log_dict(means, sync_dist=True)


def file_rates(coded: CodedImage) -> dict[str, float]:
    """Return the bits a pixel of the `file` and of each stream in it."""
    bits = {"file": 8.0 * len(coded.data), **coded.codec.stream_bits(coded.data)}
    return {name: value / coded.pixels for name, value in bits.items()}


def _module(module: LightningModule) -> CodecStage:
    if not isinstance(module, CodecStage):
        raise ValueError(f"RateLogger got a {type(module).__name__}; use it with CodecModule, or leave it out")
    return module
