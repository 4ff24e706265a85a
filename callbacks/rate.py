"""The rate of files that are written while a codec is trained."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from ulcompress.codec import Codec
from ulcompress.training import CodecModule


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
        """Refuse with ValueError what trains no codec."""
        _codec(pl_module)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
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
        """Compress the images of a batch until there are enough."""
        wanted = self.images - len(self._rates)
        pairs = list(zip(batch.images, batch.captions, strict=True))[:wanted]
        with isolate_rng():
            self._rates += [file_rates(_codec(pl_module), image, caption) for image, caption in pairs]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the means over the images, and over the processes."""
        names = self._rates[0] if self._rates else {}
        means = {f"bpp/{name}": sum(rate[name] for rate in self._rates) / len(self._rates) for name in names}
        pl_module.log_dict(means, sync_dist=True)


def file_rates(codec: Codec, image: Tensor, caption: str | None) -> dict[str, float]:
    """Compress an image, RGB (3, H, W) in [0, 1]; return the bits a pixel of the `file` and of each stream in it."""
    data = codec.compress(image, caption if codec.takes_captions else None)
    bits = {"file": 8.0 * len(data), **codec.stream_bits(data)}
    pixels = image.shape[-2] * image.shape[-1]
    return {name: value / pixels for name, value in bits.items()}


def _codec(module: LightningModule) -> Codec:
    if not isinstance(module, CodecModule):
        raise ValueError(f"RateLogger got a {type(module).__name__}; use it with CodecModule, or leave it out")
    return module.codec
