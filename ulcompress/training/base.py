"""What all training stages share: hyperparameters, exact continuation, logging."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio

from ulcompress.part import Configurable
from ulcompress.training.acceleration import Acceleration
from ulcompress.training.loss import StageLoss
from ulcompress.training.optimizer import Options, ScheduledOptimizer
from ulcompress.training.run_logger import STATES, logger_states

HIGHEST_PSNR = 100.0
"""In dB, so that a mean stays finite where a restored image equals its original."""
WATCHED = 100
"""Batches, in one of which every trained parameter should get a gradient: what is drawn for a batch, such as its rate,
may leave some out."""
ACCUMULATION = "accumulate_grad_batches"
"""Key of a checkpoint for the batches of an optimiser step."""
OPTIMIZER = "optimizer_structure"
"""Key of a checkpoint for the classes and the groups of its optimiser."""


class TrainingModule(Configurable, LightningModule):
    """A training stage that seeds the random numbers anew in every step.

    A step's noise depends on `seed`, the global step, the batch and the rank alone, so a run that was killed at
    any step continues with the numbers that it would have seen.
    """

    fixed: tuple[str, ...] = ()
    """Arguments that stay as they are in a continued training, since the checkpoint's weights are theirs."""
    loss: StageLoss
    """Set after what is trained: an optimiser's state in a checkpoint follows the order of the parameters."""

    def __init__(
        self, *, optimizer: ScheduledOptimizer | None = None, acceleration: Acceleration | None = None, seed: int = 0
    ):
        """Take the optimiser and the acceleration, with their defaults if None, and the seed of the noise."""
        super().__init__()
        # Plain data, from which Lightning's own function builds the module again when a checkpoint is loaded.
        self.save_hyperparameters(
            {
                "_instantiator": "lightning.pytorch.cli.instantiate_module",
                "_class_path": self.path(),
                **self.arguments(),
            }
        )
        self.optimizer = optimizer if optimizer is not None else ScheduledOptimizer()
        self.acceleration = acceleration if acceleration is not None else Acceleration()
        self.seed = seed
        self._has_begun = False
        self._watched = 0
        self._idle: set[str] = set()

    def check(self) -> None:
        """Raise ValueError for what a new training would find out only after it has begun, such as missing weights."""

    def setup(self, stage: str) -> None:
        """Accelerate the networks; Lightning calls this before it loads weights and wraps the module for processes."""
        self.acceleration.accelerate(self)

    def begin_fit(self) -> None:
        """Take what a training begins with, such as weights of earlier stages."""

    def begin_fit_early(self) -> None:
        """Do so before `on_fit_start`, where a strategy will have shared out the parameters by then."""
        self.begin_fit()
        self._has_begun = True

    def on_fit_start(self) -> None:
        """Begin, unless that was done early."""
        if not self._has_begun:
            self.begin_fit()
        self._has_begun = False

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters that the optimiser changes, by names that begin with those of the parts."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def configure_optimizers(self) -> Any:
        """Let the optimiser's part build it for the trained parameters."""
        # Lightning refuses to clip gradients of mixed precision where the step is fused.
        fused = self._trainer is None or not isinstance(self.trainer.precision_plugin, MixedPrecision)
        configured = self.optimizer.configure(self.trained_parameters(), fused=fused)
        self._options = Options.of(configured)
        return configured

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep how many batches make a step, whose states those of the optimiser are, and the states of loggers."""
        checkpoint[ACCUMULATION] = self.trainer.accumulate_grad_batches
        checkpoint[OPTIMIZER] = self.optimizer.structure()
        if states := logger_states(self.trainer):
            checkpoint[STATES] = states

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Warn where another number of batches makes a step from now on; refuse another optimiser with ValueError."""
        if self._trainer is not None and self._trainer.state.fn == TrainerFn.FITTING:
            self._check_optimizer(checkpoint.get(OPTIMIZER) or ScheduledOptimizer().structure())
        was = checkpoint.get(ACCUMULATION)
        now = self._trainer.accumulate_grad_batches if self._trainer is not None else was
        if was is not None and was != now:
            rank_zero_warn(f"training continues with {ACCUMULATION} {now}, it began with {was}: the steps will differ")

    def _check_optimizer(self, kept: Mapping[str, Any]) -> None:
        for name, now in self.optimizer.structure().items():
            if (was := kept.get(name)) != now:
                raise ValueError(
                    f"optimizer.{name} is {now} in the command and {was} in the checkpoint, whose state would not fit; "
                    "give the checkpoint's value, or start a new training from its weights"
                )

    def on_train_start(self) -> None:
        """Let a continued training take its options of the optimiser, not those that the checkpoint has restored."""
        self._options.apply()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed the step."""
        self._seed_step(0, self.global_step, batch_idx)

    def on_after_backward(self) -> None:
        """Refuse to train on, with ValueError, where a trained parameter got no gradient in `WATCHED` batches."""
        if self._watched == WATCHED or self.global_step < self.loss.complete_from:
            return
        trained = {name: p for name, p in self.named_parameters() if p.requires_grad and p.numel()}
        idle = {name for name, p in trained.items() if p.grad is None}
        if len(idle) == len(trained):  # ZeRO has shared out the gradients already
            return
        self._idle = self._idle & idle if self._watched else idle
        self._watched += 1
        if self._watched == WATCHED and self._idle:
            raise ValueError(
                f"no loss term teaches {min(self._idle)}, nor {len(self._idle) - 1} other parameters that are trained; "
                "give the term that does a weight, or list their part under `freezing.frozen`"
            )

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Seed the batch, so that validation losses are comparable between epochs."""
        self._seed_step(1, 0, batch_idx)

    on_test_batch_start = on_validation_batch_start

    def _seed_step(self, stage: int, step: int, batch: int) -> None:
        # The batch distinguishes the micro-batches of an accumulated step.
        state = np.random.SeedSequence([self.seed, stage, step, batch, self.global_rank]).generate_state(2)
        torch.manual_seed(int(state[0]) << 32 | int(state[1]))

    def log_terms(self, terms: Mapping[str, Tensor], stage: str, size: int) -> Tensor:
        """Log the terms of `size` images, and their weighted sum, under `stage/`; return the sum."""
        total = self.loss.total(terms, self.global_step)
        values = {f"{stage}/{name}": value.detach() for name, value in terms.items()}
        self.log_dict(values, sync_dist=stage != "train", batch_size=size)
        self.log(f"{stage}/loss", total.detach(), prog_bar=True, sync_dist=stage != "train", batch_size=size)
        return total


def mean_psnr(restored: Tensor, images: Tensor) -> Tensor:
    """Return the mean over images, RGB (B, 3, H, W) in [0, 1], of each one's PSNR in dB, which counts up to 100."""
    values = peak_signal_noise_ratio(restored.clamp(0, 1), images, data_range=1.0, dim=(1, 2, 3), reduction="none")
    return values.clamp_max(HIGHEST_PSNR).mean()
