"""The check of a checkpoint's hyperparameters before a training continues from it."""

from collections.abc import Iterator, Mapping
from typing import Any

from lightning.pytorch import LightningModule

from ulcompress.part import class_of
from ulcompress.pretrained.configuration import ROOMS, Checker, flat

TRAINING_ROOMS = (*ROOMS, "losses", "training")
"""Modules of ulcompress in which the parts of a training are looked up."""


def check_hyperparameters(checkpoint: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose arguments lead to code, files or networks that the user has not asked for.

    Args:
        checkpoint: Its content.
        asked: The model's configuration by the user, defaults included, as nested plain data.

    Raises:
        ValueError: The checkpoint names something else; the message has its key and value.
    """
    hyperparameters = checkpoint.get("hyper_parameters") or {}
    if not isinstance(hyperparameters, Mapping):
        raise ValueError(f"the checkpoint's hyperparameters are a {type(hyperparameters).__name__}; give another one")
    if not hyperparameters:
        return
    arguments = {name: value for name, value in hyperparameters.items() if not str(name).startswith("_")}
    module = {"class_path": hyperparameters.get("_class_path"), "init_args": arguments}
    checker = Checker(
        rooms=TRAINING_ROOMS,
        asked=dict(flat(asked, "model")),
        classes=dict(_classes(asked)),
        advice="your own configuration must name it",
    )
    try:
        checker.part(module, LightningModule, "model")
    except ValueError as error:
        raise ValueError(f"the checkpoint is not continued: {error}; give the same option if you want it") from error


def _classes(asked: Mapping[str, Any]) -> Iterator[tuple[str, type]]:
    """Yield the classes that a configuration names, by all of their paths; they were imported when it was read."""
    for key, path in flat(asked, ""):
        if key.endswith(".class_path"):
            kind = class_of(path)
            yield from ((path, kind), (f"{kind.__module__}.{kind.__qualname__}", kind))
