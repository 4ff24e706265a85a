"""What a study has found so far."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from statistics import mean
from typing import Any

from ulcompress.evaluation.results.comparison import Comparison
from ulcompress.evaluation.results.runs import compare_runs
from ulcompress.training.run import Run
from ulcompress.training.study.attempts import FAILED
from ulcompress.training.study.measurement import StudyMeasurement, measurements
from ulcompress.training.study.plan import DONE, StudyRun, state
from ulcompress.training.study.study import BASE, Study

Results = Mapping[str, Any]


@dataclass(frozen=True)
class Cost:
    """What a variant takes, besides bits."""

    seconds: float
    """Of a training, mean over seeds."""
    memory: int
    """Most bytes of main memory of a process."""
    parameters: int
    """Of the codec."""
    codec_bytes: int
    """Of the codec's weights on the disk."""


@dataclass(frozen=True)
class Row:
    """A variant with the seeds that are measured, of which those count that the base has too."""

    name: str
    seeds: int
    bytes: float
    """Of a file, mean over images, settings and seeds."""
    bpp: float
    comparisons: Mapping[str, Comparison]
    """To the base, by metric."""
    cost: Cost
    commands: tuple[str, ...]
    """That reproduce it with its first seed; a codec that differs in its options alone is written by the study."""

    def difference(self, metric: str) -> dict[str, Any]:
        """Return the comparison to the base as plain data; one seed has no interval that tells of other trainings."""
        ends = {"low": None, "high": None} if self.seeds < 2 else {}
        return {**vars(self.comparisons[metric]), **ends}


class StudyOutcome:
    """The runs of a study as they are now."""

    def __init__(self, study: Study, runs: Sequence[StudyRun]):
        """Take the study and its runs."""
        self.study = study
        self.runs = runs
        self._measurements = {run.run.name: measurements(study, run) for run in runs}

    def state(self, run: StudyRun) -> str:
        """Return the state of a run."""
        return state(run, measured=all(one.cost is not None for one in self._measurements[run.run.name]))

    @cached_property
    def measured(self) -> dict[str, dict[int, StudyMeasurement]]:
        """What is measured: variants by name, seeds; variants in the order of the study."""
        done: dict[str, dict[int, StudyMeasurement]] = {variant.name: {} for variant in self.study.variants}
        for run in self.runs:
            for one in self._measurements[run.run.name]:
                if run.trained and one.cost is not None:
                    done[one.variant.name][run.seed] = one
        return {name: dict(sorted(seeds.items())) for name, seeds in done.items() if seeds}

    @cached_property
    def metrics(self) -> list[Mapping[str, Any]]:
        """The metrics that were measured, as `results.json` describes them."""
        one = next((one for seeds in self.measured.values() for one in seeds.values()), None)
        return [metric for metric in one.results()["metrics"] if metric["missing"] is None] if one else []

    @cached_property
    def rows(self) -> list[Row]:
        """The variants that can be compared to the base, which is the first; none before the base is measured."""
        base = self.measured.get(BASE, {})
        return [self._row(name, base, seeds) for name, seeds in self.measured.items() if base.keys() & seeds.keys()]

    @property
    def remarks(self) -> list[str]:
        """What is not done, and why, a line each."""
        lines = []
        if not self.study.evaluation.images:
            lines.append("nothing is measured: name images in the study's `evaluate`, or give --images")
        for run in self.runs:
            if (now := self.state(run)) != DONE:
                attempts = run.attempts.all()
                reason = next((one.reason for one in reversed(attempts) if one.state == FAILED), None)
                lines.append(f"{run.title}: {now}{f' after {len(attempts)} attempts: {reason}' if reason else ''}")
        return lines

    def _row(self, name: str, base: Mapping[int, StudyMeasurement], variant: Mapping[int, StudyMeasurement]) -> Row:
        seeds = [seed for seed in variant if seed in base]
        bases, results = ([some[seed].results() for seed in seeds] for some in (base, variant))
        summaries = [row for content in results for row in _codec_rows(content)]
        return Row(
            name=name,
            seeds=len(seeds),
            bytes=mean(row["bytes"] for row in summaries),
            bpp=mean(row["bpp"] for row in summaries),
            comparisons={metric["name"]: compare_runs(bases, results, metric["name"]) for metric in self.metrics},
            cost=_cost([variant[seed] for seed in seeds]),
            commands=commands(variant[seeds[0]]),
        )


def commands(measurement: StudyMeasurement) -> tuple[str, ...]:
    """Return the commands that train and measure a variant with one seed anew, in the folder `reproduced`."""
    run = replace(measurement.run, run=Run(measurement.run.run.name, Path("reproduced")))
    fit = ["fit", *run.fit_words, "--name", run.run.name, "--root", str(run.run.root)]
    again = replace(measurement, run=run)
    return tuple(shlex.join(["ulcompress", *words]) for words in (fit, again.words))


def _codec_rows(results: Results) -> list[Mapping[str, Any]]:
    codecs = {one["name"] for one in results["contestants"] if one["kind"] == "codec"}
    return [row for row in results["summary"] if row["contestant"] in codecs]


def _cost(some: Sequence[StudyMeasurement]) -> Cost:
    attempts = [attempt for one in some for attempt in one.run.attempts.all()]
    parameters, codec_bytes = weights_of(some[0].codec)
    seconds = sum(attempt.seconds.get("fit", 0.0) for attempt in attempts) / len(some)
    return Cost(seconds, max(attempt.memory for attempt in attempts), parameters, codec_bytes)


def weights_of(codec: Path) -> tuple[int, int]:
    """Return how many numbers the weights of a codec directory are, and how many bytes their file has."""
    from safetensors import safe_open

    file = codec / "model.safetensors"
    with safe_open(file, framework="numpy") as weights:
        shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118
    return sum(map(prod, shapes)), file.stat().st_size
