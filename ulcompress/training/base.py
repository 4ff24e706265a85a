"""What all training stages share: hyperparameters, exact continuation, logging."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio

from ulcompress.functional import distributed
from ulcompress.part import Configurable
from ulcompress.pretrained import read_checkpoint
from ulcompress.training.optimizer import Options, WarmupAdamW

HIGHEST_PSNR = 100.0
"""In dB, so that a mean stays finite where a restored image equals its original."""
WATCHED = 100
"""Batches, in one of which every trained parameter should get a gradient: what is drawn for a batch, such as its rate,
may leave some out."""


class TrainingModule(Configurable, LightningModule):
    """A training stage that seeds the random numbers anew in every step.

    A step's noise depends on `seed`, the global step, the batch and the rank alone, so a run that was killed at
    any step continues with the numbers that it would have seen.
    """

    fixed: tuple[str, ...] = ()
    """Arguments that stay as they are in a continued training, since the checkpoint's weights are theirs."""

    def __init__(self, *, optimizer: WarmupAdamW | None = None, seed: int = 0):
        """Take the optimiser, `WarmupAdamW` with its defaults if None, and the seed of the noise."""
        super().__init__()
        # Plain data, from which Lightning's own function builds the module again when a checkpoint is loaded.
        self.save_hyperparameters(
            {
                "_instantiator": "lightning.pytorch.cli.instantiate_module",
                "_class_path": self.path(),
                **self.arguments(),
            }
        )
        self.optimizer = optimizer if optimizer is not None else WarmupAdamW()
        self.seed = seed
        self.named: set[str] = set()
        self._watched = 0
        self._idle: set[str] = set()

    complete_from: int = 0
    """The optimiser step from which all terms count."""

    def trained_parameters(self) -> list[nn.Parameter]:
        """The parameters that the optimiser changes."""
        return [p for p in self.parameters() if p.requires_grad]

    def configure_optimizers(self) -> Any:
        """Let the optimiser's part build it for the trained parameters."""
        configured = self.optimizer.configure(self.trained_parameters())
        self._options = Options.of(configured)
        return configured

    def on_train_start(self) -> None:
        """Let a continued training take its options of the optimiser, not those that the checkpoint has restored."""
        self._options.apply()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed the step."""
        self._seed_step(0, self.global_step, batch_idx)

    def on_after_backward(self) -> None:
        """Refuse to train on, with ValueError, where a trained parameter got no gradient in `WATCHED` batches."""
        if self._watched == WATCHED or self.global_step < self.complete_from:
            return
        idle = {name for name, p in self.named_parameters() if p.requires_grad and p.grad is None and p.numel()}
        self._idle = self._idle & idle if self._watched else idle
        self._watched += 1
        if self._watched == WATCHED and self._idle:
            raise ValueError(
                f"no loss term teaches {min(self._idle)}, nor {len(self._idle) - 1} other parameters that are trained; "
                "give the term that does a weight, or list their part under `frozen`"
            )

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Seed the batch, so that validation losses are comparable between epochs."""
        self._seed_step(1, 0, batch_idx)

    on_test_batch_start = on_validation_batch_start

    def _seed_step(self, stage: int, step: int, batch: int) -> None:
        # The batch distinguishes the micro-batches of an accumulated step.
        state = np.random.SeedSequence([self.seed, stage, step, batch, self.global_rank]).generate_state(2)
        torch.manual_seed(int(state[0]) << 32 | int(state[1]))

    def check_names(self, terms: Iterable[str]) -> None:
        """Raise ValueError where `named`, the terms in the user's options, has one that is not in `terms`."""
        if unknown := sorted(self.named - set(terms)):
            raise ValueError(f"there is no loss term {unknown[0]!r}; the terms are {', '.join(sorted(terms))}")

    def weighted_sum(self, terms: dict[str, Tensor], weights: dict[str, float], stage: str, size: int) -> Tensor:
        """Log the terms of `size` images under `stage/` and return their weighted sum; the default weight is 1."""
        weighed = {name: weights.get(name, 1.0) for name in terms}
        if not any(weighed.values()):
            raise ValueError(f"all of the terms {', '.join(terms)} have no weight; give one of them a weight")
        # Terms of no weight are only logged: a zero gradient would cost a whole backward pass. DDP, though, waits for
        # the gradients of all parameters, those that learn from such a term alone too.
        counted = {name: weight for name, weight in weighed.items() if weight or distributed.together()}
        total = torch.stack([weight * terms[name] for name, weight in counted.items()]).sum()
        values = {f"{stage}/{name}": value.detach() for name, value in terms.items()}
        self.log_dict(values, sync_dist=stage != "train", batch_size=size)
        self.log(f"{stage}/loss", total.detach(), prog_bar=True, sync_dist=stage != "train", batch_size=size)
        return total


def mean_psnr(restored: Tensor, images: Tensor) -> Tensor:
    """Return the mean over images, RGB (B, 3, H, W) in [0, 1], of each one's PSNR in dB, which counts up to 100."""
    values = peak_signal_noise_ratio(restored.clamp(0, 1), images, data_range=1.0, dim=(1, 2, 3), reduction="none")
    return values.clamp_max(HIGHEST_PSNR).mean()


def load_stage(module: nn.Module, checkpoint: str, prefix: str) -> None:
    """Give a module the weights that an earlier stage's checkpoint holds under `prefix`.

    Raises:
        ValueError: The file is missing, unreadable, or does not hold this module.
    """
    state = read_checkpoint(checkpoint)["state_dict"]
    weights = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{checkpoint!r} does not hold this {type(module).__name__}: {error}") from error
