"""Variants that were trained with several seeds, of which every run has its own evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ulcompress.evaluation.results.comparison import Comparison, Point, compare

Results = Mapping[str, Any]
"""The content of one `results.json`."""


def compare_runs(base: Sequence[Results], variant: Sequence[Results], metric: str) -> Comparison:
    """Return the difference of a variant to its base, as `compare` does, from the evaluations of their runs.

    What is compared are the codecs at all their settings, without anchors, on the images that all have coded. A metric
    of sets has one value a run, so that its interval is over seeds.

    Args:
        base: One evaluation a seed.
        variant: Likewise, with the same seeds in the same order.
        metric: Name of a metric that all have.

    Raises:
        ValueError: There are not as many runs of both, an evaluation lacks the metric or has other settings than the
            rest of its variant, or no image is common to all.
    """
    if len(base) != len(variant) or not base:
        raise ValueError(f"got {len(base)} runs of the base and {len(variant)} of the variant; give the same seeds")
    described, *_ = [_described(results, metric) for results in (*base, *variant)]
    images = _common_images([*base, *variant])
    points = [_points(runs, described, images) for runs in (base, variant)]
    return compare(*points, better=described["better"], scope=described["scope"])


def _described(results: Results, metric: str) -> Mapping[str, Any]:
    known = {found["name"]: found for found in results["metrics"] if found["missing"] is None}
    if metric not in known:
        raise ValueError(f"got the metric {metric!r}; an evaluation has {', '.join(known) or 'none'}")
    return known[metric]


def _common_images(evaluations: Sequence[Results]) -> list[str]:
    """Return the images that all codecs of all evaluations have coded."""
    coded = [
        {row["image"] for row in results["results"] if row["contestant"] == codec["name"]}
        for results in evaluations
        for codec in _codecs(results)
    ]
    images = [image["name"] for image in evaluations[0]["images"] if all(image["name"] in some for some in coded)]
    if not images:
        raise ValueError("no image was coded in all runs, so there is nothing to compare")
    return images


def _codecs(results: Results) -> list[Mapping[str, Any]]:
    return [contestant for contestant in results["contestants"] if contestant["kind"] == "codec"]


def _points(runs: Sequence[Results], metric: Mapping[str, Any], images: Sequence[str]) -> list[Point]:
    """Return the points of a variant, of which the runs have the same in the same order."""
    settings = [[_setting(codec) for codec in _codecs(results)] for results in runs]
    if any(some != settings[0] for some in settings):
        raise ValueError(f"got runs of one variant at other settings: {settings[0]} and {settings[-1]}")
    numbers = _set_numbers if metric["scope"] == "set" else _image_numbers
    return [
        Point(*np.array([numbers(r, _codecs(r)[place]["name"], metric["name"], images) for r in runs]).swapaxes(0, 1))
        for place in range(len(settings[0]))
    ]


def _setting(codec: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in codec["settings"].items() if name != "codec"}


def _image_numbers(results: Results, name: str, metric: str, images: Sequence[str]) -> np.ndarray:
    """Return rates and values, (2, images)."""
    rows = {row["image"]: row for row in results["results"] if row["contestant"] == name}
    return np.array([[rows[i]["bpp"] for i in images], [rows[i]["metrics"][metric] for i in images]], dtype=float)


def _set_numbers(results: Results, name: str, metric: str, images: Sequence[str]) -> np.ndarray:
    """Return rate and value of the whole set that was evaluated, (2, 1)."""
    (row,) = [row for row in results["summary"] if row["contestant"] == name]
    found = row["metrics"][metric]
    return np.array([[row["bpp"]], [None if found is None else found["value"]]], dtype=float)
