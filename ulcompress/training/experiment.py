"""Experiments: the YAML files of a training's command line."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from ulcompress.pretrained.upgrades import upgrade_experiment

_OPTIONS = ("-c", "--config")


def upgraded_experiments(arguments: Sequence[str]) -> list[str]:
    """Return a command line in which experiments of earlier formats are replaced by their upgraded text.

    jsonargparse takes the text of a YAML file in place of its path.
    """
    return list(_upgraded(arguments))


def _upgraded(arguments: Sequence[str]) -> Iterator[str]:
    follows = False
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if follows:
            yield _text_or_path(argument)
        elif equals and option in _OPTIONS:
            yield f"{option}={_text_or_path(value)}"
        else:
            yield argument
        follows = argument in _OPTIONS


def _text_or_path(path: str) -> str:
    """Return the path, or the upgraded text of its file where that differs; errors in it are reported by the parser."""
    try:
        experiment = yaml.safe_load(Path(path).read_bytes())
    except (OSError, ValueError, yaml.YAMLError):
        return path
    upgraded = upgrade_experiment(experiment)
    return path if upgraded == experiment else yaml.safe_dump(upgraded, sort_keys=False)
