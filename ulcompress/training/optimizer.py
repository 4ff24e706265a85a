"""The optimiser of all training stages, and how its learning rate changes."""

import math
from collections.abc import Iterable
from typing import Any, final

import torch
from torch import nn

from ulcompress.part import Part, loadable


@loadable()
@final
class WarmupAdamW(Part):
    """AdamW with a linear warm-up and, if wanted, a half cosine down to zero.

    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019.
    """

    def __init__(
        self,
        *,
        learning_rate: float = 1e-4,
        warmup_steps: int = 0,
        decay_steps: int | None = None,
        weight_decay: float = 0.01,
    ):
        """Set the rates.

        Args:
            learning_rate: Peak rate.
            warmup_steps: Steps over which the rate rises linearly from 0.
            decay_steps: Step at which a half cosine after the warm-up ends at 0; None keeps the peak rate.
            weight_decay: Decoupled decay.
        """
        super().__init__()
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.decay_steps = decay_steps
        self.weight_decay = weight_decay

    def configure(self, parameters: Iterable[nn.Parameter]) -> dict[str, Any]:
        """Return what a LightningModule's `configure_optimizers` returns; the schedule is stepped every batch."""
        optimizer = torch.optim.AdamW(
            parameters, lr=self.learning_rate, betas=(0.9, 0.99), weight_decay=self.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.relative_rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def relative_rate(self, step: int) -> float:
        """Return the share of the peak rate at an optimiser step, counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.decay_steps is None:
            return 1.0
        progress = (step - self.warmup_steps) / max(1, self.decay_steps - self.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
