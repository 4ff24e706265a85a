"""Experiments: the YAML files of a training's command line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from ulcompress.pretrained.upgrades import upgrade_experiment
from ulcompress.training.observers import Entries, default_callbacks, default_loggers, merged, named
from ulcompress.training.run import Run

BASE = "base"
"""Key of an experiment that names the file, or the files, over which it is laid, relative to its own folder."""
_FILES = ("-c", "--config")
_FOLDER = "experiments"
_READ = re.compile(r"-c|--config|--trainer\.(callbacks|logger)|--trainer\.logger\.\w+")
"""Options whose values are completed here."""


def run_of(arguments: Sequence[str]) -> Run:
    """Return the run of a command line: of `--name` and `--root`, or else of its experiments.

    An experiment's name is its path below a folder `experiments`, or else its file's name; further experiments are
    added to the first one's, as in `cgdm/mini+static`.

    Raises:
        ValueError: The name would lead out of the root.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(*_FILES, dest="files", action="append", default=[])
    for option in ("--name", "--root"):
        parser.add_argument(option)
    words, _ = parser.parse_known_args(list(arguments))
    contents = [content for path in words.files for content in _contents(path)]
    said = {key: content[key] for content in contents for key in ("name", "root") if content.get(key)}
    return Run(words.name or said.get("name") or _name(words.files), Path(words.root or said.get("root") or "runs"))


def _name(files: Sequence[str]) -> str:
    names = [_below_experiments(Path(path)) for path in files if Path(path).suffix]
    return "+".join([str(names[0]), *(path.name for path in names[1:])]) if names else "run"


def _below_experiments(path: Path) -> Path:
    parts = path.with_suffix("").parts if path.suffix in (".yaml", ".yml", ".json") else path.parts
    above = max((place for place, part in enumerate(parts) if part == _FOLDER), default=len(parts) - 2)
    return Path(*parts[above + 1 :])


def resolved(arguments: Sequence[str], run: Run) -> list[str]:
    """Return a command line whose experiments are complete and in the present format.

    The files over which one is laid come before it, earlier formats are upgraded, and its callbacks and loggers hold
    those of earlier files and the defaults. jsonargparse takes the text of a YAML file in place of its path.
    """
    return list(_Words(run).resolved(arguments))


class _Words:
    """The words of a command line, with the callbacks and loggers of the files so far."""

    def __init__(self, run: Run):
        self.defaults = {"callbacks": default_callbacks(run), "logger": default_loggers(run)}
        self.entries: dict[str, Entries | None] = dict(self.defaults)
        self.run = run

    def resolved(self, arguments: Sequence[str]) -> Iterator[str]:
        option = ""
        for argument in arguments:
            name, equals, value = argument.partition("=")
            if option:
                yield from self._option(option, argument)
                option = ""
            elif _READ.fullmatch(argument):
                option = argument
            elif equals and _READ.fullmatch(name):
                yield from self._option(name, value)
            else:
                yield argument
        if option:
            yield option  # without its value, which the parser reports

    def _option(self, option: str, value: str) -> Iterator[str]:
        if option in _FILES:
            for content in _contents(value) or [value]:
                yield from (option, content if isinstance(content, str) else self._text(content))
            return
        content = _parsed(value)
        _, slot, *entry = option.lstrip("-").split(".")
        if entry:
            content = self._placed(content)
        else:
            content = merged(self.entries[slot] or self.defaults[slot], self._named(slot, content))
        yield from (option, _flow(content))

    def _text(self, experiment: dict[str, Any]) -> str:
        trainer = experiment.get("trainer")
        if isinstance(trainer, dict):
            for slot in self.defaults.keys() & trainer.keys():
                entries = self._named(slot, trainer[slot])
                self.entries[slot] = merged(self.entries[slot] or {}, entries)
            changed = {slot: self.entries[slot] for slot in self.defaults.keys() & trainer.keys()}
            experiment = {**experiment, "trainer": {**trainer, **changed}}
        return yaml.safe_dump(experiment, sort_keys=False)

    def _named(self, slot: str, parts: Any) -> Entries | None:
        entries = named(parts, self.defaults[slot])
        if slot == "logger" and entries is not None:
            return {name: self._placed(part) for name, part in entries.items()}
        return entries

    def _placed(self, logger: Any) -> Any:
        """Give a logger the run's folder, where none is named, so that it does not write where the command is typed."""
        if logger is None:
            return None
        part: dict[str, Any] = {"class_path": logger} if isinstance(logger, str) else dict(logger)
        if "class_path" in part:
            part["init_args"] = {"save_dir": str(self.run.logs), **(part.get("init_args") or {})}
        return part


def files_of(path: str | Path) -> list[Path]:
    """Return the files of an experiment in the order in which they are merged: those over which it is laid first.

    Raises:
        ValueError: A file is laid over itself, or over one that does not exist.
    """
    return _files_of(Path(path), ())


def _files_of(path: Path, above: tuple[Path, ...]) -> list[Path]:
    if path.resolve() in above:
        raise ValueError(f"{path} is its own `{BASE}`; leave one of the two out")
    experiment = _parsed_file(path)
    bases = experiment.get(BASE) if isinstance(experiment, dict) else None
    files = [path.parent / base for base in ([bases] if isinstance(bases, str) else bases or [])]
    if missing := [file for file in files if not file.is_file()]:
        raise ValueError(f"{path} is laid over {missing[0]}, which is no file; correct its `{BASE}`")
    return [*(below for file in files for below in _files_of(file, (*above, path.resolve()))), path]


def _contents(path: str) -> list[dict[str, Any]]:
    """Return the content of an experiment's files; empty where the parser is to report what is wrong with one."""
    contents = [_parsed_file(file) for file in files_of(path)]
    if not all(isinstance(content, dict) for content in contents):
        return []
    return [upgrade_experiment({key: value for key, value in content.items() if key != BASE}) for content in contents]


def _parsed_file(path: str | Path) -> Any:
    try:
        return yaml.safe_load(Path(path).read_bytes())
    except (OSError, ValueError, yaml.YAMLError):
        return None


def _flow(content: Any) -> str:
    """Return plain data as YAML in one line."""
    return yaml.safe_dump(content, default_flow_style=True, width=1 << 20).removesuffix("\n...\n").strip()


def _parsed(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
