"""Untrusted configurations, of codec directories and checkpoints: plain data that may name known classes alone."""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from ulcompress.part import Configurable, sources_of

ROOMS = (
    *("autoencoders", "encoders", "quantizers", "entropy", "conditioning", "denoisers", "decoders", "diffusion"),
    *("learned.compressai", "learned.illm", "learned.cod_lite"),
)
"""Modules of ulcompress in which the parts of a codec are looked up."""
LARGEST_FILE = 1 << 16
"""The most bytes of a configuration; that of a codec on Stable Diffusion has a tenth of them."""
DEEPEST = 40
"""The most levels of nested parts."""
_SEQUENCES = (list, tuple, Sequence)
_MAPPINGS = (dict, Mapping)


class _PlainLoader(yaml.SafeLoader):
    """Reads YAML without aliases, which let a few lines expand to gigabytes, and with a limit on its depth."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("it refers to its own parts (`*name`); write them out")
        if self.depth > DEEPEST:
            raise ValueError(f"it is nested deeper than {DEEPEST} times")
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def read_configuration(path: Path) -> dict[str, Any]:
    """Read a YAML file of plain data without resolving anything; ValueError for other files, and above 64 KiB."""
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE + 1)
        if len(text) > LARGEST_FILE:
            raise ValueError(f"it has more than {LARGEST_FILE} bytes")
        content = yaml.load(text, _PlainLoader)
    except (yaml.YAMLError, OSError, ValueError, RecursionError, AttributeError, TypeError) as error:
        raise ValueError(f"cannot read {path}: {one_line(error)}") from error
    if not isinstance(content, dict):
        held = type(content).__name__
        raise ValueError(f"{path} is no codec configuration: it holds a {held}, not sections such as `encoder`")
    return content


def one_line(error: Exception) -> str:
    """Return an error's message in one line of at most some 400 letters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 400 else f"{text[:400]} ..."


@dataclass(frozen=True)
class Recipe:
    """A part that is not built yet: its class, and its arguments, among them the recipes of other parts."""

    kind: type
    arguments: dict[str, Any]
    key: str
    """Its position in the configuration, for errors."""

    def build(self) -> Any:
        """Call the constructors, the innermost first; ValueError names the key of arguments that one refuses."""
        arguments = {name: _built(value) for name, value in self.arguments.items()}
        try:
            return self.kind(**arguments)
        except ValueError as error:
            raise ValueError(f"{self.key}: {one_line(error)}") from error
        except Exception as error:  # a constructor may raise anything on odd numbers
            raise ValueError(f"{self.key}: no {self.kind.__name__} can be built of this: {one_line(error)}") from error


def _built(value: Any) -> Any:
    if isinstance(value, Recipe):
        return value.build()
    if isinstance(value, list):
        return [_built(item) for item in value]
    if isinstance(value, dict):
        return {name: _built(item) for name, item in value.items()}
    return value


@dataclass(frozen=True)
class Checker:
    """Compares plain data with the constructors that it names.

    A class is named by its `path()`; it must be declared `loadable`, and fit the annotation of its argument. Its
    sources must be None.
    """

    packages: Collection[str] = ()
    """Packages whose classes are allowed beside those of ulcompress."""

    def part(self, value: Any, slot: type, key: str) -> Recipe:
        """Return the recipe of a part that is a `slot`.

        Raises:
            ValueError: The data is no such part, or refers to other code, files or networks; the message names the key.
        """
        if getattr(slot, "__final__", False):
            return self._recipe(slot, value, key)
        if not isinstance(value, dict) or not isinstance(value.get("class_path"), str):
            raise ValueError(f"{key}: a part is `class_path` and `init_args`, got {_shown(value)}")
        if other := sorted(map(str, set(value) - {"class_path", "init_args"})):
            raise ValueError(f"{key}: Option {other[0]!r} is not accepted; a part is `class_path` and `init_args`")
        kind = self.find(value["class_path"], key)
        if not issubclass(kind, slot) or inspect.isabstract(kind):
            raise ValueError(f"{key}: {value['class_path']} does not name a subclass of {slot.__name__}")
        return self._recipe(kind, value.get("init_args", {}), key)

    def find(self, path: str, key: str) -> type:
        """Return the class of a path, by importing its module; ValueError where it may not be named."""
        module, _, name = path.rpartition(".")
        root = module.partition(".")[0]
        if root == "ulcompress" and module not in {f"ulcompress.{room}" for room in ROOMS}:
            raise ValueError(f"{key}: {_shown(path)} is no part that a codec has")
        if root != "ulcompress" and root not in self.packages:
            advice = "where you know its package, allow it by `--trust PACKAGE`, in Python by trust=[...]"
            raise ValueError(f"{key}: {_shown(path)} is not of ulcompress; {advice}")
        try:
            kind = getattr(import_module(module), name, None)
        except ImportError as error:
            raise ValueError(f"{key}: cannot import {module}: {one_line(error)}") from error
        if not (isinstance(kind, type) and issubclass(kind, Configurable) and kind.path() == path):
            raise ValueError(f"{key}: {path} does not name a part")
        return kind

    def _recipe(self, kind: type, arguments: Any, key: str) -> Recipe:
        sources = sources_of(kind)
        if sources is None:
            raise ValueError(f"{key}: {kind.__name__} is not declared `ulcompress.part.loadable`")
        if not isinstance(arguments, dict):
            raise ValueError(f"{key}: expected the arguments of a {kind.__name__}, got {_shown(arguments)}")
        known = parameters(kind)
        parsed = {}
        for name, value in arguments.items():
            if name not in known:
                raise ValueError(f"{key}: Option {name!r} is not accepted; {kind.__name__} takes {', '.join(known)}")
            parsed[name] = self._argument(value, known[name], f"{key}.{name}", sources)
        for name, parameter in known.items():
            if parameter.default is parameter.empty and name not in arguments:
                raise ValueError(f"{key}: the required argument {key}.{name} is missing")
        return Recipe(kind, parsed, key)

    def _argument(self, value: Any, parameter: inspect.Parameter, key: str, sources: Collection[str]) -> Any:
        if value is not None and parameter.name in sources:
            raise ValueError(f"{key} is {_shown(value)}, which leads to code, files or models elsewhere")
        return self.value(value, parameter.annotation, key)

    def value(self, value: Any, kind: Any, key: str) -> Any:
        """Return the value of an argument with this annotation, parts as recipes; ValueError where it does not fit."""
        origin, inner = get_origin(kind), get_args(kind)
        if kind is Any:
            return _plain(value, key)
        if origin in (Union, UnionType):
            return self._either(value, inner, key)
        if origin is Literal and value in inner:
            return value
        if isinstance(kind, type) and issubclass(kind, Configurable):
            return self.part(value, kind, key)
        if (origin or kind) in _SEQUENCES and isinstance(value, list):
            each = inner[0] if inner else Any
            return [self.value(item, each, f"{key}[{number}]") for number, item in enumerate(value)]
        if (origin or kind) in _MAPPINGS and isinstance(value, dict):
            each = inner[1] if inner else Any
            return {_name(name, key): self.value(item, each, f"{key}.{name}") for name, item in value.items()}
        if kind is float and type(value) is int:
            return float(_plain(value, key))
        if kind in (bool, int, float, str) and type(value) is kind:
            return _plain(value, key)
        raise ValueError(f"{key}: expected {inspect.formatannotation(kind)}, got {_shown(value)}")

    def _either(self, value: Any, kinds: Sequence[Any], key: str) -> Any:
        if value is None and NoneType in kinds:
            return None
        kinds = [kind for kind in kinds if kind is not NoneType]
        for kind in kinds[:-1]:
            try:
                return self.value(value, kind, key)
            except ValueError:
                continue
        return self.value(value, kinds[-1], key)


def parameters(kind: type) -> dict[str, inspect.Parameter]:
    """Return the constructor's named parameters, with annotations resolved from strings; Any where there is none."""
    constructor = kind.__init__  # pyright: ignore[reportGeneralTypeIssues]
    hints = get_type_hints(constructor)
    signature = list(inspect.signature(constructor).parameters.values())[1:]
    named = (p for p in signature if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
    return {p.name: p.replace(annotation=hints.get(p.name, Any)) for p in named}


def _plain(value: Any, key: str) -> Any:
    """Return numbers, strings, None, and lists and dictionaries of them; ValueError for anything else."""
    if isinstance(value, list):
        return [_plain(item, key) for item in value]
    if isinstance(value, dict):
        return {_name(name, key): _plain(item, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, str) and "${" not in value:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**64):
        return value
    raise ValueError(f"{key}: {_shown(value)} is no plain value; give finite numbers, and strings without `${{`")


def _name(name: Any, key: str) -> str:
    if not isinstance(name, str):
        raise ValueError(f"{key}: a name is {_shown(name)}; give a string")
    return name


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]} ..."
