"""What all training stages of a codec share: where they begin, what they leave as it is, and their validation."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from ulcompress.codec import Codec
from ulcompress.pretrained import FILE_DIGEST, FINGERPRINT
from ulcompress.training.acceleration import Acceleration
from ulcompress.training.base import TrainingModule, mean_psnr
from ulcompress.training.coded_image import CodedImage
from ulcompress.training.freezing import Freezing
from ulcompress.training.optimizer import ScheduledOptimizer
from ulcompress.training.preparation import Preparation
from ulcompress.training.sharding import whole_parameters
from ulcompress.training.start import Start


class CodecStage(TrainingModule, ABC):
    """Trains a codec, or parts of it, on the terms of a loss, and logs all of them.

    Where quantiser and side information stay as they are in the codec with which it begins, its files stay readable:
    the exported codec has its fingerprint.
    """

    def __init__(
        self,
        *,
        codec: Codec,
        start: Start | None = None,
        freezing: Freezing | None = None,
        preparation: Preparation | None = None,
        optimizer: ScheduledOptimizer | None = None,
        acceleration: Acceleration | None = None,
        seed: int = 0,
    ):
        """Take the parts; the stages say what they are, and call `train` when they are complete."""
        super().__init__(optimizer=optimizer, acceleration=acceleration, seed=seed)
        self.codec = codec
        self.start = start if start is not None else Start()
        self.freezing = freezing if freezing is not None else Freezing()
        self.preparation = preparation if preparation is not None else Preparation()
        self.coded_images: list[CodedImage] = []
        self.files: dict[str, str] = {}
        self._continued = False
        self.freezing.freeze(codec)

    @abstractmethod
    def terms(self, batch: Any) -> dict[str, Tensor]:
        """Return the loss terms of a batch with `images`, (B, 3, H, W) in [0, 1], and `captions`, by name."""

    def train(self, mode: bool = True) -> nn.Module:
        """Keep what is frozen in evaluation mode, but for what is trained within."""
        super().train(mode)
        self.freezing.set_modes(self.codec)
        return self

    def check(self) -> None:
        """Raise ValueError where weights of earlier stages are missing."""
        self.start.check()

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters that the optimiser changes; names of the codec's begin with its slots."""
        return {name.removeprefix("codec."): p for name, p in super().trained_parameters().items()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep whose files the codec reads, as long as it reads files as it did at the beginning."""
        super().on_save_checkpoint(checkpoint)
        checkpoint.update(self.files)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember that a training is continued, and with whose files it began."""
        super().on_load_checkpoint(checkpoint)
        self.files = {key: checkpoint[key] for key in (FINGERPRINT, FILE_DIGEST) if key in checkpoint}
        self._continued = True

    def begin(self) -> None:
        """Take what a new training takes from earlier stages."""
        self.start.load(self.codec)
        if (fingerprint := self.start.fingerprint(self.codec)) is not None:
            self.files = {FINGERPRINT: fingerprint, FILE_DIGEST: self.codec.file_digest()}

    def _begin(self) -> None:
        if not self._continued:
            self.begin()

    def on_validation_start(self) -> None:
        """Take weights from earlier stages where nothing is trained."""
        if self.trainer.state.fn == TrainerFn.VALIDATING:
            self._begin()

    def on_test_start(self) -> None:
        """Take weights from earlier stages."""
        self._begin()

    def begin_fit(self) -> None:
        """Take weights from earlier stages when a new training starts, and let the conditioners learn their tables.

        Those come from the training captions, where they have not been learnt yet.
        """
        self._begin()
        train_captions = getattr(getattr(self.trainer, "datamodule", None), "train_captions", None)
        if train_captions is not None:
            self.codec.prepare(train_captions())

    def on_train_start(self) -> None:
        """Let the codec's parts learn from data what they do before the first step, when a new training starts."""
        super().on_train_start()
        if self.global_step > 0:
            return
        self._seed_step(2, 0, 0)
        self.train()
        with whole_parameters(self):
            self.preparation.run(self.codec, self._train_batches)
        self.train()

    def _train_batches(self) -> Iterable[Any]:
        return self.trainer.datamodule.train_dataloader()  # pyright: ignore[reportAttributeAccessIssue]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the weighted loss of a batch."""
        return self.log_terms(self.terms(batch), "train", len(batch.images))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the terms, and the PSNR of images sampled from their condition alone.

        `coded_images` are those of the batch until all callbacks have seen it.
        """
        pairs = zip(batch.images, batch.captions, strict=True)
        self.coded_images = [CodedImage(self.codec, image, caption) for image, caption in pairs]
        with torch.no_grad():
            self.log_terms(self.terms(batch), "val", len(batch.images))
            if batch_idx == 0:
                highest = self.codec.quantizer.rates
                self._log_psnr(batch, "val/psnr", highest)
                if highest > 1:
                    self._log_psnr(batch, "val/psnr-rate-1", 1)

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Free the coded images; Lightning calls this after the callbacks."""
        self.coded_images = []

    on_test_batch_end = on_validation_batch_end

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Log under `val/` what a validation logs."""
        self.validation_step(batch, batch_idx)

    def _log_psnr(self, batch: Any, name: str, rate: int) -> None:
        images, restored = batch.images[:4].float().cpu(), []
        for image, caption in zip(images, batch.captions, strict=False):
            code = self.codec.encode(image, caption if self.codec.takes_captions else None, rate=rate)
            restored.append(self.codec.decode(code, seed=self.seed))
        psnr = mean_psnr(torch.stack(restored), images)
        self.log(name, psnr.to(self.device), prog_bar=True, sync_dist=True, batch_size=len(images))
