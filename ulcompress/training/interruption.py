"""A training that a signal ends writes a checkpoint."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ulcompress.training.last_checkpoint import save_last

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
    """Ends a training on SIGTERM, Ctrl-C or SLURM's warning after the present step, with a checkpoint.

    The checkpoint is `last.ckpt` where the first ModelCheckpoint puts its own, or in the trainer's root; training
    continues from it exactly, except that an interrupted validation is not repeated. The exit status is 128
    and the signal's number, as a shell has it. A second signal ends the process at once.

    Lightning's own handler of SIGTERM is replaced in the meantime: it keeps nothing, and its message to the other
    processes may meet them in the middle of a step. Here all processes decide together, after each step.

    SLURM warns before a job's time is over (`#SBATCH --signal=USR1@120`). Where Lightning would requeue the job in the
    middle of the step, it does so here after it, and the job continues from what is written then.
    """

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._step = 0
        self._requeue: tuple[signal.Signals, Callable[..., Any]] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the handlers, after Lightning's; Lightning restores the earlier ones at the end."""
        if trainer.received_sigterm:
            raise SIGTERMException
        self._received = None
        self._step = trainer.global_step
        self._requeue = _requeue_handler(trainer)
        for number in self._signals():
            signal.signal(number, self._receive)

    def _signals(self) -> Iterator[signal.Signals]:
        yield from SIGNALS
        if self._requeue is not None:
            yield self._requeue[0]

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
        for each in self._signals():
            signal.signal(each, signal.SIG_DFL)

    def _wanted(self, trainer: Trainer) -> bool:
        return trainer.strategy.reduce_boolean_decision(self._received is not None, all=False)

    def _end(self, trainer: Trainer) -> None:
        path = save_last(trainer)
        received = self._received or signal.SIGTERM  # another process has received it
        if self._requeue is not None:
            warning, requeue = self._requeue
            if trainer.strategy.reduce_boolean_decision(received == warning, all=False):
                for each in self._signals():
                    signal.signal(each, signal.SIG_IGN)  # SLURM ends a job that is requeued
                requeue(received := warning, None)
        if trainer.is_global_zero:
            print(
                f"ulcompress: ended by {received.name} after step {trainer.global_step}, which is kept in {path}; "
                f"to go on, run the same command with --ckpt_path {path}",
                file=sys.stderr,
            )
        raise SystemExit(128 + received)


def _requeue_handler(trainer: Trainer) -> tuple[signal.Signals, Callable[..., Any]] | None:
    """Return SLURM's warning and what Lightning does on it: it writes a checkpoint and requeues the job."""
    environment = trainer._accelerator_connector.cluster_environment
    if not (isinstance(environment, SLURMEnvironment) and environment.auto_requeue and environment.requeue_signal):
        return None
    return environment.requeue_signal, trainer._signal_connector._slurm_sigusr_handler_fn
