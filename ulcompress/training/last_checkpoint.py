"""The checkpoint of the last step, from which a training continues."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class LastCheckpoint(Callback):
    """Completes what the ModelCheckpoints of a training write.

    They write every so many steps, before a validation at the same step. Here the last step is written too, and a
    checkpoint is written again after a validation at its step, which has changed what callbacks keep: a continued
    training does not repeat that validation.
    """

    def __init__(self) -> None:
        self._saved = -1

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember the step."""
        self._saved = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Write the last step here already, in the middle of an epoch, so that a longer training continues exactly."""
        if trainer.global_step == trainer.max_steps:
            self._complete(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the checkpoints of this step again."""
        if trainer.sanity_checking or self._saved != trainer.global_step:
            return
        for path in dict.fromkeys(os.path.realpath(path) for keeper in keepers(trainer) for path in _newest(keeper)):
            if Path(path).exists():
                trainer.save_checkpoint(path)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the last step of a training that epochs or hours end, before a moving average replaces the weights."""
        if trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs:
            self._complete(trainer)

    def _complete(self, trainer: Trainer) -> None:
        if self._saved != trainer.global_step and trainer.global_step and keepers(trainer):
            save_last(trainer)


def keepers(trainer: Trainer) -> list[ModelCheckpoint]:
    """Return the callbacks that write checkpoints."""
    return [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]


def save_last(trainer: Trainer) -> Path:
    """Write `last.ckpt` where the first ModelCheckpoint puts its own, or in the trainer's root; return its path."""
    keeper = next(iter(keepers(trainer)), None)
    folder = Path(keeper.dirpath if keeper and keeper.dirpath else trainer.default_root_dir)
    path = folder / f"{ModelCheckpoint.CHECKPOINT_NAME_LAST}{ModelCheckpoint.FILE_EXTENSION}"
    if trainer.is_global_zero and path.is_symlink():  # to the last of the others, with `save_last: link`
        path.unlink()
    if keeper is not None:
        keeper.last_model_path = str(path)  # so that the next `last.ckpt` takes its place
    trainer.save_checkpoint(path)
    for each in keepers(trainer):
        # Else one that has not written yet writes at the end of the training, where Lightning has begun the next epoch.
        each._last_checkpoint_saved = str(path)
    return path


def _newest(keeper: ModelCheckpoint) -> list[str]:
    """Return the paths that a ModelCheckpoint has written last; the best by a metric may be older."""
    paths = [keeper.last_model_path, keeper.best_model_path if keeper.monitor is None else ""]
    return [path for path in paths if path]
