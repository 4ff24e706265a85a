"""Errors of jsonargparse in one line for people."""

import inspect
import re
from collections.abc import Iterator
from typing import Any, get_args

from ulcompress.part import class_of
from ulcompress.pretrained.configuration import parameters
from ulcompress.pretrained.upgrades import STAGE_OPTIONS
from ulcompress.training.base import TrainingModule
from ulcompress.training.trainer import NamedTrainer

_SECTIONS = {"model": TrainingModule, "trainer": NamedTrainer}
_OFFERED = ("ulcompress.", "callbacks.", "lightning.pytorch.callbacks.", "lightning.pytorch.loggers.")
"""Packages whose classes are named by messages, without those that only tests define."""
_UNKNOWN = re.compile(r"(?:Option '|unrecognized arguments: --)(\w+)")


def configuration_error(error: Exception) -> str:
    """Return the key's full path and what is wrong with its value.

    jsonargparse reports a mistake in a nested part once for every level and every type that it tried.
    """
    text = " ".join(str(error).split())
    text = text.split(" - Expected a <class 'NoneType'>")[0]
    key = ".".join(re.findall(r'Parser key "([^"]+)":', text))
    problem = re.split(r'Parser key "[^"]+":|Errors: - |Problem with given class_path \'[^\']+\':', text)[-1].strip()
    if name := re.search(r"Expected a dot import path string: (\S+)", problem):
        problem = f"{name[1]!r} is no part that fits here; {_choices(text, key)}"
    elif "Expected an instantiatable class" in problem:
        problem = f"there is no entry of that name yet, whose options could be set; {_choices(text, key)}"
    if (option := _UNKNOWN.search(problem)) and key == "model" and option[1] in STAGE_OPTIONS:
        problem = f"{option[1]!r} is now the option {key}.{STAGE_OPTIONS[option[1]]}"
    return f"{key}: {problem}" if key else problem


def _choices(text: str, key: str) -> str:
    slots = _slots(text)
    if len(slots) == 1 and getattr(slots[0], "__final__", False):
        return f"give its options: {', '.join(f'{key}.{option}' for option in parameters(slots[0]))}"
    names = sorted({cls.__name__ for slot in slots for cls in _subclasses(slot) if _is_offered(cls)})
    fitting = f"choose {' or '.join(names)}, or give" if names else "give"
    return f"{fitting} the import path of a fitting class"


def _slots(text: str) -> list[type]:
    """Return the classes of which the argument takes one, where jsonargparse's message says whose argument it is."""
    owners = re.split(r"Problem with given class_path '([^']+)':", text)
    keys = re.findall(r'Parser key "([^"]+)":', owners[-1])
    first, *names = ".".join(keys).split(".")
    slots = [class_of(owners[-2])] if len(owners) > 1 else [_SECTIONS[first]] if first in _SECTIONS else []
    for name in names if len(owners) == 1 else [first, *names]:
        known = [parameters(slot)[name].annotation for slot in slots if name in parameters(slot)]
        slots = [kind for annotation in known for kind in _classes(annotation)]
    return slots


def _classes(annotation: Any) -> Iterator[type]:
    """Yield the classes of our own or of Lightning's within an annotation."""
    if isinstance(annotation, type) and annotation.__module__.partition(".")[0] in ("ulcompress", "lightning"):
        yield annotation
    for inner in get_args(annotation):
        yield from _classes(inner)


def _is_offered(cls: type) -> bool:
    return not (cls.__name__.startswith("_") or inspect.isabstract(cls)) and cls.__module__.startswith(_OFFERED)


def _subclasses(cls: type) -> Iterator[type]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
