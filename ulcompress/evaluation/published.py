"""What papers and repositories say of other codecs, to be drawn beside what is measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

FILE = Path(__file__).with_name("published.yaml")
KODAK = 24
"""Images, named kodim01 to kodim24."""


def published(dataset: str | None, metrics: Collection[str]) -> list[dict[str, Any]]:
    """Return the points of a data set for the metrics of these names, in the form of `results.json`.

    Each has `system`, `dataset`, `metric`, `bpp`, `value`, `source`, and `protocol`: how sure the number is.
    """
    points = []
    for entry in OmegaConf.to_container(OmegaConf.load(FILE)) if dataset is not None else []:  # pyright: ignore[reportGeneralTypeIssues,reportOptionalIterable]
        assert isinstance(entry, dict)
        if entry["dataset"] == dataset:
            points += [point for point in _points(entry) if point["metric"] in metrics]
    return points


def recognise(images: Mapping[str, tuple[int, int]]) -> str | None:
    """Return `kodak` for the 24 images of that set at their own size, else None.

    `images` are names to width and height.
    """
    names = {f"kodim{number:02}" for number in range(1, KODAK + 1)}
    right = set(images) == names and {tuple(sorted(size)) for size in images.values()} == {(512, 768)}
    return "kodak" if right else None


def _points(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    told = f"{entry['evidence']}{'; ' + entry['note'] if 'note' in entry else ''}"
    common = {key: entry[key] for key in ("system", "dataset", "source")} | {"protocol": told}
    return [
        common | {"metric": metric, "bpp": bpp, "value": value}
        for bpp, *values in entry["points"]
        for metric, value in zip(entry["metrics"], values, strict=True)
        if value is not None
    ]
