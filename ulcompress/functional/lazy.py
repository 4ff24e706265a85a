"""Packages whose public names are imported on first use, so that a codec waits only for what its own parts import."""

from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazy_exports(package: str, /, **modules: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of a package (PEP 562).

    Args:
        package: Its `__name__`.
        modules: For each public name the module that defines it, relative to the package.
    """

    def __getattr__(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f".{modules[name]}", package), name)

    def __dir__() -> list[str]:
        return sorted(modules)

    return __getattr__, __dir__
