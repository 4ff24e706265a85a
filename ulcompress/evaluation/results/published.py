"""Published numbers of other codecs, shown beside those that are measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).with_name("published.yaml")


def published(dataset: str | None, metrics: Collection[str]) -> list[dict[str, Any]]:
    """Return the points of a data set for the metrics of these names, in the form of `results.json`.

    Each has `system`, `dataset`, `metric`, `bpp`, `value`, `source`, and `protocol`: how sure the number is. None for a
    data set that nobody knows gives none; ValueError for a name that is in no entry of the file.
    """
    if dataset is None:
        return []
    if dataset not in datasets():
        raise ValueError(f"got the data set {dataset!r}; numbers are published for {', '.join(datasets())}")
    entries = yaml.safe_load(FILE.read_text())
    points = [point for entry in entries if entry["dataset"] == dataset for point in _points(entry)]
    return [point for point in points if point["metric"] in metrics]


@cache
def datasets() -> tuple[str, ...]:
    """Return the names of the data sets for which numbers are published."""
    return tuple(dict.fromkeys(entry["dataset"] for entry in yaml.safe_load(FILE.read_text())))


def recognise(images: Mapping[str, tuple[int, int]]) -> str | None:
    """Return the name of the data set that these images are, whole and at their own sizes; None for any other set.

    `images` are names to width and height. Known by the names of their files are `kodak` and `div2k-valid`.
    """
    names = set(images)
    if names == {f"kodim{number:02}" for number in range(1, 25)}:
        return "kodak" if {tuple(sorted(size)) for size in images.values()} == {(512, 768)} else None
    if names == {f"{number:04}" for number in range(801, 901)}:
        return "div2k-valid" if {max(size) for size in images.values()} == {2040} else None
    return None


def _points(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    protocol = f"{entry['evidence']}{'; ' + entry['note'] if 'note' in entry else ''}"
    common = {key: entry[key] for key in ("system", "dataset", "source")} | {"protocol": protocol}
    return [
        common | {"metric": metric, "bpp": bpp, "value": value}
        for bpp, *values in entry["points"]
        for metric, value in zip(entry["metrics"], values, strict=True)
        if value is not None
    ]
