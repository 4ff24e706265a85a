"""Objects that a configuration builds and that return it again: the parts of a codec, and training modules."""

import inspect
import re
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

Class = TypeVar("Class", bound=type)


class Configurable:
    """Remembers its constructor arguments, from which an equal object can be built.

    The arguments are stored when the constructor is called, so that an object is saved the same way whether Python, a
    YAML file or a checkpoint built it. Arguments must be numbers, strings, booleans, None, parts, or lists and
    dictionaries of these.
    """

    def __new__(cls, *args: Any, **kwargs: Any):
        """Store the arguments; copying and unpickling call this without any and restore the stored ones later."""
        self = super().__new__(cls)
        bound = inspect.signature(cls.__init__).bind_partial(self, *args, **kwargs).arguments
        self.__dict__["_arguments"] = dict(list(bound.items())[1:])
        return self

    def arguments(self) -> dict[str, Any]:
        """Return all constructor arguments, defaults included, as plain data; parts become `class_path` entries."""
        parameters = list(inspect.signature(type(self).__init__).parameters.values())[1:]
        named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        stored = self.__dict__["_arguments"]
        return {p.name: _plain(stored.get(p.name, p.default), p.name) for p in named}

    @classmethod
    def path(cls) -> str:
        """Return the import path by which a configuration names this class."""
        package = cls.__module__.rsplit(".", 1)[0] if cls.__module__.startswith("ulcompress.") else cls.__module__
        return f"{package}.{cls.__qualname__}"


class Part(Configurable, nn.Module):
    """A swappable part of a codec."""

    def config(self) -> dict[str, Any]:
        """Return `{"class_path": ..., "init_args": ...}`, from which jsonargparse builds an equal part."""
        return {"class_path": self.path(), "init_args": self.arguments()}

    def check_state(self) -> None:
        """Raise ValueError where buffers that were just loaded hold values that no training produces."""


def loadable(*, sources: Sequence[str] = (), plain: Sequence[str] = ()) -> Callable[[Class], Class]:
    """Declare that a class may be built from a codec directory or a checkpoint of anybody; a subclass says so itself.

    Args:
        sources: Constructor arguments that lead out of the directory, to a file or a model on the hub for instance.
            They must be None there.
        plain: Others that take strings, which lead nowhere.

    Raises:
        TypeError: An argument that takes strings is in neither list.
    """

    def declare(kind: Class) -> Class:
        arguments = list(inspect.signature(kind.__init__).parameters.values())[1:]
        named = {argument.name for argument in arguments if _takes_strings(argument)}
        if undeclared := sorted(named - {*sources, *plain}):
            raise TypeError(f"does {kind.__name__}.{undeclared[0]} lead to a file or a network? Declare it")
        kind._loadable = frozenset(sources)
        return kind

    return declare


def sources_of(kind: type) -> frozenset[str] | None:
    """Return the `sources` of a class that is declared `loadable`; None of any other."""
    return vars(kind).get("_loadable")


def class_of(path: str) -> type:
    """Return the class that a configuration's `class_path` names, which is imported for it."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _takes_strings(argument: inspect.Parameter) -> bool:
    if argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD):
        return False
    text = inspect.formatannotation(argument.annotation)
    return argument.annotation is argument.empty or bool(re.search(r"\b(str|Path|Any)\b", text))


def _plain(value: Any, name: str) -> Any:
    if isinstance(value, Part):
        # Where a class has no subclasses, a configuration needs no path to say which one is meant.
        return value.arguments() if getattr(value, "__final__", False) else value.config()
    if isinstance(value, (list, tuple)):
        return [_plain(item, name) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item, name) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"argument {name!r} is a {type(value).__name__}, which cannot be saved; give plain data or a Part")
