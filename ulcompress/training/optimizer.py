"""The optimiser of all training stages, and how its learning rate changes."""

import math
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

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
        schedule = LambdaLR(optimizer, self.relative_rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def relative_rate(self, step: int) -> float:
        """Return the share of the peak rate at an optimiser step, counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.decay_steps is None:
            return 1.0
        progress = (step - self.warmup_steps) / max(1, self.decay_steps - self.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


PROGRESS = frozenset({"last_epoch", "_step_count", "_last_lr", "optimizer", "_is_initial"})
"""What a schedule keeps about where it is, and not about what was asked for."""


@dataclass(frozen=True)
class Options:
    """The options with which an optimiser and its schedule were built, for when a checkpoint has restored others."""

    optimizer: Optimizer
    schedule: LRScheduler | None
    groups: list[dict[str, Any]]
    """Of the optimiser's groups of parameters, which themselves are left out."""
    planned: dict[str, Any]
    """Attributes of the schedule."""

    @classmethod
    def of(cls, configured: Mapping[str, Any]) -> "Options":
        """Take what `configure_optimizers` returns."""
        optimizer, schedule = configured["optimizer"], configured.get("lr_scheduler", {}).get("scheduler")
        groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        attributes = vars(schedule) if schedule is not None else {}
        planned = {key: copy(value) for key, value in attributes.items() if key not in PROGRESS}
        return cls(optimizer, schedule, groups, planned)

    def apply(self) -> None:
        """Give the options back; the rate is that of the schedule at the step where the training is."""
        rates = [group["lr"] for group in self.optimizer.param_groups]
        bases = [group.get("initial_lr", group["lr"]) for group in self.optimizer.param_groups]
        for group, options in zip(self.optimizer.param_groups, self.groups, strict=True):
            group.update(options)
        if self.schedule is None or self.schedule.last_epoch == 0:
            return
        vars(self.schedule).update(self.planned)
        for group, rate, base in zip(self.optimizer.param_groups, rates, bases, strict=True):
            group["lr"] = rate * (group["initial_lr"] / base) if base else group["initial_lr"]
        if isinstance(self.schedule, LambdaLR):  # others go on from the rate of the step before
            for group, share in zip(self.optimizer.param_groups, self.schedule.lr_lambdas, strict=True):
                group["lr"] = group["initial_lr"] * share(self.schedule.last_epoch)
        self.schedule._last_lr = [group["lr"] for group in self.optimizer.param_groups]
