"""Which images are measured together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from ulcompress.images import image_size

T = TypeVar("T")


def groups(images: Mapping[str, Path], most: int) -> list[list[str]]:
    """Cut images, files by name, into groups of one size and at most `most` names.

    The size is that of the file's header, before any rotation; files without a readable one are of one kind.
    """
    if most == 1:
        return [[name] for name in images]
    kinds = alike(images, lambda name: _size(images[name]))
    return [kind[start : start + most] for kind in kinds for start in range(0, len(kind), most)]


def alike(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """Return items in lists of equal keys, all in the order in which they came."""
    found: dict[Hashable, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return list(found.values())


def _size(path: Path) -> tuple[int, int] | None:
    try:
        return image_size(path)
    except Exception:  # the error is reported when the whole file is read
        return None
