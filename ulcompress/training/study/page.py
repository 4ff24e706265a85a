"""The page of an evaluation for a study: its variants side by side."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ulcompress.evaluation.page import write_page
from ulcompress.evaluation.results.comparison import KINDS
from ulcompress.training.study.measurement import StudyMeasurement
from ulcompress.training.study.outcome import StudyOutcome
from ulcompress.training.study.study import BASE

Results = Mapping[str, Any]
_CODEC = "codec"
"""Name of the codec's directory in every run, and so of the contestant in its evaluation."""


def write_study_page(outcome: StudyOutcome, folder: Path) -> Path:
    """Write `index.html` and return its path.

    Curves and pictures are of the first seed of each variant, the differences of all seeds.
    """
    first = {name: next(iter(outcome.measured[name].values())) for name in (row.name for row in outcome.rows)}
    parts = [_renamed(one, name, folder) for name, one in first.items()]
    base = parts[0]
    lists = {key: [row for part in parts for row in part[key]] for key in ("contestants", "results", "summary")}
    left_out = {key: [row for part in parts for row in part[key]] for key in ("failed", "failures")}
    content = {**base, **lists, **left_out, "bjontegaard": [], "comparisons": list(_comparisons(outcome))}
    command = f"ulcompress ablate, study {outcome.study.name}; curves and pictures of each variant's first seed"
    return write_page({**content, "kinds": KINDS, "command": command}, folder)


def _comparisons(outcome: StudyOutcome) -> Iterator[dict[str, Any]]:
    """Yield the differences of all seeds, as `results.json` has those of an evaluation."""
    for row in outcome.rows:
        if row.name != BASE:
            yield from (
                {"name": row.name, "reference": BASE, "metric": metric, **row.difference(metric)}
                for metric in row.comparisons
            )


def _renamed(measurement: StudyMeasurement, name: str, folder: Path) -> dict[str, Any]:
    """Return the results of a measurement under its variant's name, with paths from another folder."""
    results = measurement.results()
    names = {one["name"]: _name(one["name"], name) for one in results["contestants"]}
    contestants = [
        {
            **one,
            "name": names[one["name"]],
            "curve": name if one["kind"] == _CODEC else one["curve"],
            "matched_to": one["matched_to"] and names[one["matched_to"]],
        }
        for one in results["contestants"]
    ]
    path = Path(os.path.relpath(measurement.folder, folder))
    of_contestants = {
        key: [{**row, "contestant": names.get(row["contestant"], name)} for row in results[key]]
        for key in ("results", "summary", "failures")
    }
    rows = [_moved(row, path, ("file", "restored")) for row in of_contestants["results"]]
    images = [_moved(row, path, ("original",)) for row in results["images"]]
    failed = [{**row, "name": name, "curve": name} for row in results["failed"]]
    return {
        **results,
        **of_contestants,
        "contestants": contestants,
        "results": rows,
        "images": images,
        "failed": failed,
    }


def _name(contestant: str, variant: str) -> str:
    """Put the variant in the place of the codec: `codec rate=1`, or `avif at codec rate=1`."""
    anchor, at, matched = contestant.rpartition(" at ")
    return f"{anchor}{at}{variant}{matched.removeprefix(_CODEC)}"


def _moved(row: Mapping[str, Any], path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    return {**row, **{key: row[key] and (path / row[key]).as_posix() for key in keys}}
