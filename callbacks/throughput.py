"""How many images a training takes a second."""

import time
from contextlib import ExitStack
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.flop_counter import FlopCounterMode


class Throughput(Callback):
    """Logs `train/images-per-second` over all processes, between two steps that are logged; validation is left out.

    With `peak` it also logs `train/share-of-peak`: the matrix products and convolutions of these images, over what the
    devices could compute in that time. They are counted in the first step, which is not compiled for that.
    """

    def __init__(self, *, peak: float | None = None):
        """Take what one device computes at most, in 10^12 floating-point operations a second: 989 for an H100 in bf16.

        Raises:
            ValueError: The peak is not positive.
        """
        if peak is not None and peak <= 0:
            raise ValueError(f"peak is in 10^12 operations a second, above 0, got {peak}")
        self._peak = peak
        self._counter: FlopCounterMode | None = None
        self._counting = ExitStack()
        self._operations: float | None = None
        self._images = 0
        self._seconds = 0.0
        self._since = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._images, self._seconds, self._since = 0, 0.0, time.monotonic()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Begin to count the operations of the first step."""
        if self._peak is not None and self._operations is None:
            self._counter = FlopCounterMode(display=False)
            self._counting.enter_context(torch.compiler.set_stance("force_eager"))  # compiled ones hide theirs
            self._counting.enter_context(self._counter)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the images of the batch, and log the rate in the steps that are logged."""
        if self._counter is not None:
            self._counting.close()
            self._operations, self._counter = self._counter.get_total_flops() / len(batch.images), None
        self._images += len(batch.images) * trainer.world_size
        if not trainer._logger_connector.should_update_logs:
            return
        seconds = max(self._seconds + time.monotonic() - self._since, 1e-9)
        pl_module.log("train/images-per-second", self._images / seconds)
        if self._peak is not None and self._operations is not None:
            possible = 1e12 * self._peak * trainer.world_size * seconds
            pl_module.log("train/share-of-peak", self._operations * self._images / possible)
        self.on_train_start(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Count no more."""
        self._counting.close()
        self._counter = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._seconds += time.monotonic() - self._since

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on."""
        self._since = time.monotonic()
