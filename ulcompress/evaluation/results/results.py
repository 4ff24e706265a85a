"""The results of an evaluation: all numbers in one file, tables, a page."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ulcompress.evaluation.measuring.contestants import Contestant
from ulcompress.evaluation.measuring.evaluation import Evaluation
from ulcompress.evaluation.measuring.plan import Plan
from ulcompress.evaluation.measuring.run import Outcome, processes_of, threads_of
from ulcompress.evaluation.metrics import Metric, Missing, SetMetric
from ulcompress.evaluation.page import embedded, write_page
from ulcompress.evaluation.results.bjontegaard import METHOD, rate_delta
from ulcompress.evaluation.results.bootstrap import interval, mean_interval
from ulcompress.evaluation.results.comparison import KINDS, Comparison, Point, compare
from ulcompress.evaluation.results.published import published, recognise
from ulcompress.evaluation.results.store import Store
from ulcompress.evaluation.results.summary import differences, means, summary_latex, summary_markdown
from ulcompress.files import write_whole
from ulcompress.functional.cores import cores
from ulcompress.functional.lines import printable

FORMAT = 2
PACKAGES = (
    "ulcompress", "torch", "torchvision", "diffusers", "transformers", "compressai", "torchmetrics", "torch-fidelity",
    "pillow", "numpy",
)  # fmt: skip
"""Packages whose versions are recorded."""
NUMBERS = ("bytes", "bpp", "encode_seconds", "decode_seconds", "working_memory")
"""Fields of a record that are averaged over images beside the metrics."""
DELTA_RESAMPLES = 100
"""Resamples of Bjøntegaard deltas, which are costly."""


def write_results(results: Mapping[str, Any], folder: Path, *, embed: int | None = None) -> list[Path]:
    """Write `results.json`, the tables as CSV, Markdown and LaTeX, and `index.html`; return their paths.

    With `embed` the images that were kept in the folder are within the page, at most so many pixels across.
    """
    texts = {
        "results.json": json.dumps(results, indent=1, allow_nan=False, ensure_ascii=False) + "\n",
        "summary.csv": means(results).csv,
        "differences.csv": differences(results).csv,
        "summary.md": summary_markdown(results),
        "summary.tex": summary_latex(results),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_whole(folder / name, text.encode())
    shown = results if embed is None else embedded(results, folder, width=embed)
    return [*(folder / name for name in texts), write_page(shown, folder)]


def gather(evaluation: Evaluation, outcomes: Sequence[Outcome], *, command: str = "") -> dict[str, Any]:
    """Collect what an evaluation's folder holds into the content of `results.json`: plain data, no NaN.

    Means are over the images that every contestant has coded, so that all are of the same images; those that a metric
    of pairs is not defined for, through any contestant, are left out of it for all. A contestant that has coded none
    is listed under `failed` alone.

    Args:
        evaluation: As it was run.
        outcomes: What `run` returned; the failures among them are listed.
        command: What the user typed.

    Raises:
        ValueError: No image was coded by all contestants that coded any.
    """
    return _Gathering(evaluation, outcomes).content(command)


class _Gathering:
    """The records of an evaluation, summarised."""

    def __init__(self, evaluation: Evaluation, outcomes: Sequence[Outcome]):
        plan = self.plan = evaluation.plan
        self.store = Store(plan.out)
        contestants = evaluation.contestants
        self.metrics, self.missing = evaluation.metrics, evaluation.missing
        self.failures = [outcome for outcome in outcomes if outcome.error is not None]
        failed = {(outcome.contestant, outcome.image) for outcome in self.failures}
        found = {(c.name, image): self.store.record(c.name, image) for c in contestants for image in plan.images}
        self.records = {key: record for key, record in found.items() if record is not None and key not in failed}
        having = {name for name, _ in self.records}
        self.contestants = [contestant for contestant in contestants if contestant.name in having]
        self.failed = [contestant for contestant in contestants if contestant.name not in having]
        self.images = [i for i in plan.images if all((c.name, i) in self.records for c in self.contestants)]
        if not self.records or not self.images:
            raise ValueError("no image was coded by all contestants, so there is nothing to compare")
        self.defined = {metric.name: self._defined(metric) for metric in self.metrics if metric.scope == "image"}
        self.values = {(c.name, m.name): self._value(c, m) for c in self.contestants for m in self.metrics}
        self.sizes = {image: (record.width, record.height) for (_, image), record in self.records.items()}

    def content(self, command: str) -> dict[str, Any]:
        """Return the content of `results.json`."""
        dataset = self.plan.dataset or recognise({image: self.sizes[image] for image in self.images})
        return {
            "format": FORMAT,
            "command": printable(command),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "dataset": dataset,
            "versions": versions(),
            "machine": _machine(self.plan),
            "metrics": [*map(_metric, self.metrics), *map(_missing, self.missing)],
            "contestants": [self._contestant(contestant) for contestant in self.contestants],
            "images": [self._image(name) for name in self.plan.images if name in self.sizes],
            "results": [
                self._result(c, image) for c in self.contestants for image in self.sizes if self._has(c, image)
            ],
            "summary": [self._summary(contestant) for contestant in self.contestants],
            "failed": [self._failed(contestant) for contestant in self.failed],
            "failures": [
                {"contestant": f.contestant, "image": f.image, "error": f.error}
                for f in sorted(self.failures, key=lambda f: (f.contestant, f.image))
            ],
            "bjontegaard": self._deltas(self._reference()),
            "comparisons": self._comparisons(self._reference()),
            "kinds": KINDS,
            "published": published(dataset, [metric.name for metric in self.metrics]),
        }

    def _has(self, contestant: Contestant, image: str) -> bool:
        return (contestant.name, image) in self.records

    def _contestant(self, contestant: Contestant) -> dict[str, Any]:
        names = ("name", "curve", "kind", "matched_to", "fingerprint")
        return {name: getattr(contestant, name) for name in names} | {"settings": dict(contestant.settings)}

    def _failed(self, contestant: Contestant) -> dict[str, Any]:
        """Return name and curve of a contestant without any record, and why it has none of the first image."""
        errors = (failure.error for failure in self.failures if failure.contestant == contestant.name)
        return {"name": contestant.name, "curve": contestant.curve, "error": next(errors, None)}

    def _image(self, name: str) -> dict[str, Any]:
        width, height = self.sizes[name]
        caption = self.plan.captions.get(name)
        return {
            "name": name,
            "file": printable(self.plan.images[name].name),
            "width": width,
            "height": height,
            "caption": caption and printable(caption),
            "original": self.store.original_path(name),
        }

    def _result(self, contestant: Contestant, image: str) -> dict[str, Any]:
        record = self.records[contestant.name, image]
        kept = {
            "file": self.store.file_path(contestant, image),
            "restored": self.store.image_path(contestant.name, image),
        }
        hidden = ("identity", "protocols", "metrics", "width", "height")
        fields = {name: value for name, value in vars(record).items() if name not in hidden}
        numbers = {metric.name: record.metrics.get(metric.name) for metric in self.metrics if metric.scope == "image"}
        place = {"contestant": contestant.name, "image": image, "bpp": record.bpp}
        return place | fields | {"metrics": numbers} | kept

    def _numbers(self, contestant: Contestant, number: str) -> np.ndarray:
        """Return one number an image, (count,); NaN where it is missing."""
        records = [self.records[contestant.name, image] for image in self.images]
        found = [getattr(r, number) if number in NUMBERS else r.metrics.get(number) for r in records]
        return np.array([np.nan if value is None else value for value in found], dtype=float)

    def _defined(self, metric: Metric) -> np.ndarray:
        """Return for each image, (count,), whether all contestants have a number of this metric of pairs."""
        return np.all([np.isfinite(self._numbers(c, metric.name)) for c in self.contestants], axis=0)

    def _summary(self, contestant: Contestant) -> dict[str, Any]:
        means = {number: _mean(self._numbers(contestant, number)) for number in NUMBERS}
        metrics = {metric.name: self.values[contestant.name, metric.name] for metric in self.metrics}
        over = sum(not self.records[contestant.name, image].fits for image in self.images)
        counts = {"contestant": contestant.name, "images": len(self.images), "over_budget": over}
        return counts | means | {"metrics": metrics}

    def _value(self, contestant: Contestant, metric: Metric) -> dict[str, Any] | None:
        """Return a metric's `value`, of how many `images`, with the ends of its interval, `low` and `high`.

        None where there is no value. A metric of sets has no interval: draws with replacement hold an image
        twice, which biases such a distance.
        """
        if isinstance(metric, SetMetric):
            points = self._points(contestant, metric)
            value, count, ends = _finite(metric.compute(points)), len(points), None
        else:
            numbers = self._numbers(contestant, metric.name)[self.defined[metric.name]]
            value, count, ends = _mean(numbers), len(numbers), mean_interval(numbers)
        low, high = ends or (None, None)
        return None if value is None else {"value": value, "images": count, "low": low, "high": high}

    def _points(self, contestant: Contestant, metric: Metric) -> list[dict[str, np.ndarray]]:
        points = [self.store.points(contestant.name, image, metric.name) for image in self.images]
        return [of_image for of_image in points if any(map(len, of_image.values()))]

    def _reference(self) -> str:
        anchors = [contestant.curve for contestant in self.contestants if contestant.kind == "anchor"]
        return self.plan.reference or (anchors or [self.contestants[0].curve])[0]

    def _deltas(self, reference: str) -> list[dict[str, Any]]:
        curves: dict[str, list[Contestant]] = {}
        for contestant in self.contestants:
            curves.setdefault(contestant.curve, []).append(contestant)
        pairs = [metric for metric in self.metrics if metric.scope == "image"]
        return [
            {"reference": reference, "curve": curve, "metric": metric.name, "method": METHOD}
            | self._delta(curves[reference], curves[curve], metric)
            for curve in curves
            if curve != reference and reference in curves
            for metric in pairs
        ]

    def _comparisons(self, reference: str) -> list[dict[str, Any]]:
        """Return the difference of every other contestant to the reference, and of every curve that can be compared."""
        base = [c for c in self.contestants if c.curve == reference]
        base = base or [c for c in self.contestants if c.name == reference]
        others = [c for c in self.contestants if c not in base]
        single = {c.name: [c] for c in others}
        curves: dict[str, list[Contestant]] = {}
        for contestant in others:
            name = " ".join(word for word in (contestant.curve, self._usage(contestant), "(curve)") if word)
            curves.setdefault(name, []).append(contestant)
        whole = {name: points for name, points in curves.items() if len(points) > 1}
        rows = [
            {"name": name, "reference": reference, "metric": metric.name}
            | asdict(self._comparison(base, points, metric))
            for name, points in [*single.items(), *whole.items()]
            for metric in self.metrics
            if base
        ]
        return [row for row in rows if row["name"] in single or row["kind"] == "bjontegaard"]

    def _comparison(self, base: Sequence[Contestant], variant: Sequence[Contestant], metric: Metric) -> Comparison:
        """Compare points of one usage with those of the base that are used likewise, or with all where none is."""
        base = [c for c in base if self._usage(c) == self._usage(variant[0])] or base
        base_points, points = ([self._point(contestant, metric) for contestant in some] for some in (base, variant))
        return compare(base_points, points, better=metric.better, scope=metric.scope)

    def _usage(self, contestant: Contestant) -> str:
        """Return the settings of a codec but for its rate, as text; of an anchor those of what it is matched to."""
        matched = [c for c in self.contestants if c.name == contestant.matched_to]
        settings = (matched or [contestant])[0].settings
        return ",".join(f"{name}={value}" for name, value in settings.items() if name not in ("codec", "rate"))

    def _point(self, contestant: Contestant, metric: Metric) -> Point:
        """Return rates and values, (1, images), or those of the whole set, (1, 1)."""
        rates = self._numbers(contestant, "bpp")
        if metric.scope == "image":
            defined = self.defined[metric.name]
            return Point(rates[None, defined], self._numbers(contestant, metric.name)[None, defined])
        found = self.values[contestant.name, metric.name]
        return Point(np.array([[rates.mean()]]), np.array([[np.nan if found is None else found["value"]]]))

    def _delta(self, reference: Sequence[Contestant], curve: Sequence[Contestant], metric: Metric) -> dict[str, Any]:
        defined = self.defined[metric.name]
        numbers = [
            [(self._numbers(c, "bpp")[defined], self._numbers(c, metric.name)[defined]) for c in contestants]
            for contestants in (reference, curve)
        ]
        if not defined.any():
            return {"rate_percent": None, "low": None, "high": None, "refused": f"no image has {metric.label}"}

        def of(chosen: np.ndarray):
            points = [[(bpp[chosen].mean(), values[chosen].mean()) for bpp, values in part] for part in numbers]
            return rate_delta(points[0], points[1], better=metric.better)

        count = int(defined.sum())
        delta = of(np.arange(count))
        ends = None
        if delta.rate_percent is not None:
            ends = interval(lambda chosen: _number(of(chosen).rate_percent), count, resamples=DELTA_RESAMPLES)
        low, high = ends or (None, None)
        return {"rate_percent": delta.rate_percent, "low": low, "high": high, "refused": delta.refused}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _metric(metric: Metric) -> dict[str, Any]:
    names = ("name", "label", "protocol", "better", "scope")
    return {name: getattr(metric, name) for name in names} | {"files": dict(metric.files), "missing": None}


def _missing(metric: Missing) -> dict[str, Any]:
    unknown = dict.fromkeys(("protocol", "better", "scope"))
    return {"name": metric.name, "label": metric.name, **unknown, "files": {}, "missing": metric.reason}


def _mean(numbers: np.ndarray) -> float | None:
    known = numbers[np.isfinite(numbers)]
    return float(known.mean()) if len(known) else None


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _machine(plan: Plan) -> dict[str, Any]:
    shared = {"processes": processes_of(plan), "threads": threads_of(plan), "batch": plan.batch}
    return {"cpu": _processor(), "cores": cores(), "device": _device(plan.device), **shared}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _device(name: str) -> str:
    return torch.cuda.get_device_name(name) if torch.device(name).type == "cuda" else name
