"""Lightning's Trainer, whose callbacks and loggers have names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint, LearningRateMonitor
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import Strategy

from ulcompress.training.checkpoint_io import WholeCheckpointIO
from ulcompress.training.interruption import InterruptionCheckpoint
from ulcompress.training.last_checkpoint import LastCheckpoint
from ulcompress.training.sharding import NAME
from ulcompress.training.zero import NAMES as ZERO_NAMES


class NamedTrainer(Trainer):
    """A Trainer that takes its callbacks and loggers as named entries, and writes checkpoints whole."""

    def __init__(
        self,
        *,
        callbacks: dict[str, Callback | None] | None = None,
        logger: dict[str, Logger | None] | None = None,
        **options: Any,
    ):
        """Take the parts.

        Args:
            callbacks: By any names; None leaves one out.
            logger: By any names; None leaves one out.
            options: Those of Lightning's Trainer.
        """
        # Those that write checkpoints come last, when the others have seen the step.
        observers = [*sorted(_present(callbacks), key=_writes_checkpoints), LastCheckpoint()]
        loggers = _present(logger)
        if not loggers:  # which is refused
            observers = [callback for callback in observers if not isinstance(callback, LearningRateMonitor)]
        if not any(isinstance(callback, Checkpoint) for callback in observers):
            options["enable_checkpointing"] = False  # or Lightning adds a ModelCheckpoint
        _check_strategy(options.get("strategy"))
        super().__init__(callbacks=observers, logger=loggers, **options)
        # Unless the configuration names another way.
        if type(self.strategy.checkpoint_io) is TorchCheckpointIO:
            self.strategy.checkpoint_io = WholeCheckpointIO()


def _check_strategy(strategy: Strategy | str | None) -> None:
    name = strategy if isinstance(strategy, str) else type(strategy).__name__ if strategy is not None else ""
    if name.lower().startswith(("fsdp", "deepspeed")) and name not in (NAME, *ZERO_NAMES):
        raise ValueError(
            f"trainer.strategy {name} shares weights out before a training takes those of `model.start`, and its "
            f"checkpoints cannot be exported; --trainer.strategy {NAME} shares out the same"
        )


def _writes_checkpoints(callback: Callback) -> bool:
    return isinstance(callback, InterruptionCheckpoint)


def _present(parts: Mapping[str, Any] | None) -> list[Any]:
    return [part for part in (parts or {}).values() if part is not None]
