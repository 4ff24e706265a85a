"""Loggers that know the run that they log: name, configuration, codec, and what a continued training goes on with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

STATES = "logger_states"
"""Key in checkpoints."""


class RunLogger(ABC):
    """A logger with a state in checkpoints, such as the id of its run; loggers of Lightning's have none."""

    @abstractmethod
    def describe_run(self, record: Mapping[str, Any], configuration: Mapping[str, Any]) -> None:
        """Take the content of `run.json` and the resolved configuration, before anything is logged."""

    @abstractmethod
    def log_codec(self, directory: Path, measured: Mapping[str, float]) -> None:
        """Log the codec directory that was exported at the end, with what was measured last, by names of metrics."""

    @abstractmethod
    def close(self, *, succeeded: bool) -> None:
        """End the log; nothing is logged afterwards."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return what a continued training needs, as plain data."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, before anything is logged."""


def run_loggers(trainer: Trainer) -> Iterator[RunLogger]:
    """Return the loggers of a trainer that know their run."""
    return (logger for logger in trainer.loggers if isinstance(logger, RunLogger))


@contextmanager
def closed_loggers(trainer: Trainer) -> Iterator[None]:
    """End the logs of a run when the block ends, with whether it did without an error."""
    succeeded = False
    try:
        yield
        succeeded = True
    finally:
        for logger in run_loggers(trainer):
            logger.close(succeeded=succeeded)


def logger_states(trainer: Trainer) -> dict[str, Any]:
    """Return the states of the loggers by their classes' names, for a checkpoint."""
    return {type(logger).__name__: logger.state_dict() for logger in run_loggers(trainer)}


def load_logger_states(trainer: Trainer, checkpoint: Mapping[str, Any]) -> None:
    """Give the loggers their states from a checkpoint; one of an earlier version has none."""
    states = checkpoint.get(STATES, {})
    for logger in run_loggers(trainer):
        if type(logger).__name__ in states:
            logger.load_state_dict(states[type(logger).__name__])
