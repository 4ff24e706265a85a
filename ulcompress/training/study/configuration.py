"""What a command line of `ulcompress fit` amounts to, without running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from jsonargparse import ArgumentParser
from lightning.pytorch import LightningModule

from ulcompress.training.base import TrainingModule
from ulcompress.training.cli import CodecCLI, start
from ulcompress.training.messages import configuration_error
from ulcompress.training.run import flat


class _Resolving(CodecCLI):
    """Parses a command line and builds nothing."""

    def _refuse_another(self) -> None:
        pass

    def _set_seed(self) -> None:
        pass

    def instantiate_classes(self) -> None:
        pass

    def after_instantiate_classes(self) -> None:
        pass

    def _run_subcommand(self, subcommand: str) -> None:
        pass


def resolve(words: Sequence[str]) -> dict[str, Any]:
    """Return the complete configuration of `ulcompress fit WORDS` as plain data.

    Raises:
        ValueError: A key or a value is wrong; the message names its full path.
    """
    return start(_Resolving, ["fit", *words]).resolved


def build(configuration: Mapping[str, Any]) -> LightningModule:
    """Return the model of a resolved configuration, with random weights or those of the networks that it names.

    Raises:
        ValueError: It cannot be built, or weights that it begins with are missing.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningModule, "model")
    try:
        model = deepcopy(configuration["model"])  # parsing changes it
        built = parser.instantiate_classes(parser.parse_object({"model": model}))["model"]
        if isinstance(built, TrainingModule):
            built.check()
    except Exception as error:  # constructors may raise anything on odd numbers
        raise ValueError(configuration_error(error) or type(error).__name__) from error
    return built


@dataclass(frozen=True)
class Difference:
    """An option that two configurations have otherwise."""

    key: str
    before: str
    after: str

    def __str__(self) -> str:
        """Write `key: before -> after`."""
        return f"{self.key}: {self.before} -> {self.after}"


def differences(base: Mapping[str, Any], variant: Mapping[str, Any]) -> list[Difference]:
    """Return the options in which a resolved configuration differs from its base.

    Of a part of another class the class alone is named.
    """
    before, after = map(_options, (base, variant))
    keys = [key for key in dict.fromkeys((*before, *after)) if before.get(key) != after.get(key)]
    return [Difference(key, _text(before.get(key)), _text(after.get(key))) for key in keys if not _within(key, keys)]


def _options(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by their full keys; a part itself has its class."""
    return {key.removesuffix(".class_path"): value for key, value in flat(configuration)}


def _within(key: str, keys: Sequence[str]) -> bool:
    """Return whether a part in which the option is differs as a whole."""
    parts = key.split(".")
    return any(".".join(parts[:count]) in keys for count in range(1, len(parts)))


def _text(value: Any) -> str:
    """Write a value, and a class without its module."""
    is_class = isinstance(value, str) and value.startswith(("ulcompress.", "callbacks.", "lightning."))
    return value.rpartition(".")[2] if is_class else str(value)
