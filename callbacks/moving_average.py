"""Exponential moving average of a model in training, learned codebooks included."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from ulcompress.training.sharding import FullyShardedStrategy


class MovingAverage(WeightAveraging):
    """Averages weights and the statistics that belong to them; validation and checkpoints use the average.

    Statistics such as a codebook belong to the weights, so floating-point buffers are averaged too; counts and other
    integers are copied. (Lightning's own `EMAWeightAveraging` either leaves all buffers out or averages integers as
    well.) An encoder that drifts faster than the average follows makes an average of no use, whatever is averaged:
    compare both with `ulcompress export --last`.
    """

    def __init__(self, *, decay: float = 0.999):
        """Set the decay a step; about 1 / (1 - decay) steps are averaged."""
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be at least 0 and less than 1, got {decay}")
        self.decay = decay
        super().__init__(use_buffers=True, multi_avg_fn=self._average)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copy the model; ValueError where no process will have whole weights."""
        if isinstance(trainer.strategy, FullyShardedStrategy):
            raise ValueError(
                "MovingAverage needs whole weights, and trainer.strategy shares them out; leave it out by "
                "--trainer.callbacks.moving_average null, or choose the strategy ddp"
            )
        super().setup(trainer, pl_module, stage)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Update after every optimiser step."""
        return step_idx is not None

    def _average(self, averaged: list[Tensor], current: list[Tensor], count: Any) -> None:
        """Move tensors of one type in place."""
        if averaged[0].is_floating_point():
            # lerp leaves what does not change as it is, to the bit: frozen parts stay what they were.
            torch._foreach_lerp_(averaged, current, 1 - self.decay)  # pyright: ignore[reportPrivateImportUsage]
        else:
            torch._foreach_copy_(averaged, current)  # pyright: ignore[reportPrivateImportUsage]
