"""Errors of jsonargparse in one line for people."""

import inspect
import re
from collections.abc import Iterator

from ulcompress.part import Part
from ulcompress.pretrained.configuration import parameters
from ulcompress.pretrained.upgrades import STAGE_OPTIONS

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
        problem = f"{name[1]!r} is no part that fits here; {_choices(key)}"
    if (option := _UNKNOWN.search(problem)) and key == "model" and option[1] in STAGE_OPTIONS:
        problem = f"{option[1]!r} is now the option {key}.{STAGE_OPTIONS[option[1]]}"
    return f"{key}: {problem}" if key else problem


def _choices(key: str) -> str:
    slot = key.split(".")[-1]
    ours = (
        cls for cls in _subclasses(Part) if cls.__module__.startswith("ulcompress.") and not inspect.isabstract(cls)
    )
    fitting = [cls for cls in ours if slot in _slots(cls)]
    if len(fitting) == 1 and getattr(fitting[0], "__final__", False):
        return f"give its options: {', '.join(f'{key}.{option}' for option in parameters(fitting[0]))}"
    names = sorted(cls.__name__ for cls in fitting)
    choices = f"choose {' or '.join(names)}, or give" if names else "give"
    return f"{choices} the import path of a fitting class"


def _slots(cls: type) -> set[str]:
    """Return the names of a class and of what it derives from, as slots are written: `quantizer`, `text_encoder`."""
    return {re.sub(r"(?<!^)(?=[A-Z])", "_", base.__name__).lower() for base in cls.__mro__}


def _subclasses(cls: type) -> Iterator[type]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
