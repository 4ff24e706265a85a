"""What libraries print in every training and what is of no use to the person who reads it."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

WARNINGS = {
    # 2026-11, Lightning 2.6: frozen parts are in evaluation mode on purpose.
    r"Found \d+ module\(s\) in eval mode at the start of training": UserWarning,
    # 2026-11, Lightning 2.6 with torch 2.14: its own use of a deprecated function.
    r".*isinstance\(treespec, LeafSpec\).* is deprecated": FutureWarning,
    # 2026-11, Lightning 2.6: with images in memory, one worker is enough; the throughput is logged.
    r"The '\w+' does not have many workers": UserWarning,
    # 2026-11, Lightning 2.6: a continued training writes where it wrote before.
    r"Checkpoint directory .* exists and is not empty": UserWarning,
    # 2026-11, Lightning 2.6: small data sets have few batches.
    r"The number of training batches \(\d+\) is smaller than the logging interval": UserWarning,
    # 2026-11, Lightning 2.6: a training without a validation set has an empty list of its loaders.
    r"Total length of `list` across ranks is zero": UserWarning,
    # 2026-11, Lightning 2.6: observers that are added or left out in a continued training need no state.
    r"Be aware that when using `ckpt_path`, callbacks used to create the checkpoint need to be provided": UserWarning,
}
"""Beginnings of warnings, and their categories."""
MESSAGES = (
    # 2026-11, Lightning 2.6: advertisements of its makers.
    r".*\blitlogger\b",
    r".*\blitmodels\b",
    # 2026-11, Lightning 2.6: accelerators that nobody asked for.
    r"(TPU|HPU|IPU) available: False",
    # 2026-11, Lightning 2.6: checkpoints are read safely in any case, since `weights_only` is passed on.
    r"`weights_only` was not set",
)
"""Beginnings of messages in the log."""


@contextmanager
def quiet() -> Iterator[None]:
    """Leave known noise out of what a training prints, within the block."""
    loggers = [logging.getLogger(name) for name in _names()]
    with warnings.catch_warnings():
        for message, category in WARNINGS.items():
            warnings.filterwarnings("ignore", message, category)
        for logger in loggers:
            logger.addFilter(_is_wanted)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeFilter(_is_wanted)


def _names() -> list[str]:
    known = [name for name in logging.root.manager.loggerDict if name.startswith("lightning")]
    return [*known, "lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"]


def _is_wanted(record: logging.LogRecord) -> bool:
    return not re.match("|".join(MESSAGES), record.getMessage(), re.DOTALL)
