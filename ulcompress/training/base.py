"""What all training stages share: hyperparameters, exact continuation, logging."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from ulcompress.part import Recorded
from ulcompress.training.optimizer import WarmupAdamW


class TrainingModule(Recorded, LightningModule):
    """A training stage in which every step draws its random numbers from its own seed.

    A step's noise depends on `seed`, the global step and the rank alone, so a run that was killed at any step
    continues with the numbers that it would have seen.
    """

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

    def trained_parameters(self) -> list[nn.Parameter]:
        """The parameters that the optimiser changes."""
        return [p for p in self.parameters() if p.requires_grad]

    def configure_optimizers(self) -> Any:
        """Let the optimiser's part build it for the trained parameters."""
        return self.optimizer.configure(self.trained_parameters())

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed the step."""
        self._seed_step(0, self.global_step, batch_idx)

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Seed the batch, so that validation losses are comparable between epochs."""
        self._seed_step(1, 0, batch_idx)

    on_test_batch_start = on_validation_batch_start

    def _seed_step(self, stage: int, step: int, batch: int) -> None:
        # The batch tells the micro-batches of an accumulated step apart.
        state = np.random.SeedSequence([self.seed, stage, step, batch, self.global_rank]).generate_state(2)
        torch.manual_seed(int(state[0]) << 32 | int(state[1]))

    def weighted_sum(self, terms: dict[str, Tensor], weights: dict[str, float], stage: str, size: int) -> Tensor:
        """Log the terms of `size` images under `stage/` and return their weighted sum; the default weight is 1."""
        total = torch.stack([weights.get(name, 1.0) * value for name, value in terms.items()]).sum()
        values = {f"{stage}/{name}": value.detach() for name, value in terms.items()}
        self.log_dict(values, sync_dist=stage != "train", batch_size=size)
        self.log(f"{stage}/loss", total.detach(), prog_bar=True, sync_dist=stage != "train", batch_size=size)
        return total


def load_weights(module: nn.Module, checkpoint: str, prefix: str) -> None:
    """Load a module's weights from a Lightning checkpoint, taking the entries under `prefix`.

    Raises:
        ValueError: The file is missing, or does not hold this module.
    """
    if not Path(checkpoint).is_file():
        raise ValueError(f"no checkpoint {checkpoint!r}; train that stage first or give another path")
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    try:
        module.load_state_dict(own)
    except RuntimeError as error:
        raise ValueError(f"{checkpoint!r} does not hold this {type(module).__name__}: {error}") from error
