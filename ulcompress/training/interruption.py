"""A training that a signal ends writes a checkpoint."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def signals_have_a_status() -> Iterator[None]:
    """Give a run that a signal has ended its exit status; Lightning ends with 0 on SIGTERM, and with 1 on Ctrl-C."""
    try:
        yield
    except SIGTERMException as error:
        raise SystemExit(128 + signal.SIGTERM) from error
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise


class InterruptionCheckpoint(Callback):
    """Ends a training on SIGTERM or Ctrl-C after the present step, with a checkpoint.

    The checkpoint is `last.ckpt` where the first ModelCheckpoint puts its own, or in the trainer's root; training
    continues from it exactly, except that an interrupted validation is not repeated. The exit status is 128
    and the signal's number, as a shell has it. A second signal ends the process at once.

    Lightning's own handler of SIGTERM is replaced in the meantime: it keeps nothing, and its message to the other
    processes may meet them in the middle of a step. Here all processes decide together, after each step.
    """

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the handlers, after Lightning's; Lightning restores the earlier ones at the end."""
        if trainer.received_sigterm:
            raise SIGTERMException
        self._received = None
        self._step = trainer.global_step
        for number in SIGNALS:
            signal.signal(number, self._receive)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """End when a signal came and no gradients wait for an optimiser step."""
        stepped, self._step = trainer.global_step > self._step, trainer.global_step
        if stepped and self._wanted(trainer):
            self._end(trainer)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Leave the validation when a signal came, so that callbacks undo what they have changed for it."""
        if self._wanted(trainer):
            raise StopIteration

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End before anything is logged of a part of a validation."""
        if self._wanted(trainer):
            self._end(trainer)

    def _receive(self, number: int, _: Any) -> None:
        self._received = signal.Signals(number)
        # The next one ends the process, whatever it is at.
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    def _wanted(self, trainer: Trainer) -> bool:
        return trainer.strategy.reduce_boolean_decision(self._received is not None, all=False)

    def _end(self, trainer: Trainer) -> None:
        path = _save(trainer)
        received = self._received or signal.SIGTERM  # another process has received it
        if trainer.is_global_zero:
            print(
                f"ulcompress: ended by {received.name} after step {trainer.global_step}, which is kept in {path}; "
                f"to go on, run the same command with --ckpt_path {path}",
                file=sys.stderr,
            )
        raise SystemExit(128 + received)


def _save(trainer: Trainer) -> Path:
    """Write the checkpoint and return its path."""
    keeper = next((c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)), None)
    folder = Path(keeper.dirpath if keeper and keeper.dirpath else trainer.default_root_dir)
    path = folder / f"{ModelCheckpoint.CHECKPOINT_NAME_LAST}{ModelCheckpoint.FILE_EXTENSION}"
    if trainer.is_global_zero and path.is_symlink():  # to the last of the others, with `save_last: link`
        path.unlink()
    if keeper is not None:
        keeper.last_model_path = str(path)  # so that the next `last.ckpt` takes its place
    trainer.save_checkpoint(path)
    return path
