"""Products of options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any


def combinations(grid: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the options of every combination: `learning_rate=0.001, steps=4`.

    Args:
        grid: Values of each option, by its full key; names have the last part of the key alone,
            and of `setting` its value.

    Raises:
        ValueError: An option has no list of values.
    """
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"the grid has {key}: {values}; give a list of values")
    for values in product(*grid.values()):
        options = dict(zip(grid, values, strict=True))
        yield ", ".join(map(_name, options.items())), options


def _name(option: tuple[str, Any]) -> str:
    key, value = option
    return str(value) if key == "setting" else f"{key.rpartition('.')[2]}={value}"
