"""What is measured of a run: `ulcompress evaluate` with the codec of the run as each of its variants uses it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ulcompress.evaluation.results.store import digest
from ulcompress.files import write_whole
from ulcompress.training.study.identity import files_digest
from ulcompress.training.study.plan import StudyRun, folder_name
from ulcompress.training.study.study import BASE, MeasurementPlan, Study, Variant
from ulcompress.training.study.variation import vary


@dataclass(frozen=True)
class StudyMeasurement:
    """A variant with one seed, measured."""

    run: StudyRun
    variant: Variant
    evaluation: MeasurementPlan
    anchors: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Name for people."""
        return f"{self.variant.name}, seed {self.run.seed}"

    @property
    def folder(self) -> Path:
        """Folder of the results."""
        return self.run.run.folder / "evaluation" / folder_name(self.variant)

    @property
    def codec(self) -> Path:
        """Directory of the codec that is measured."""
        return self.folder / "codec" if self.variant.codec else self.run.run.codec

    @cached_property
    def words(self) -> list[str]:
        """Words of the command that measures it."""
        evaluation = self.evaluation
        settings = [text for one in evaluation.settings if (text := str(one | self.variant.setting))]
        listed = [("--setting", text) for text in dict.fromkeys(settings)]
        listed += [("--anchor", name) for name in self.anchors]
        listed += [("--weights", evaluation.weights)] if evaluation.weights else []
        metrics = ["--metrics", *evaluation.metrics] if evaluation.metrics else []
        options = [word for pair in listed for word in pair]
        place = ["--codec", str(self.codec), "--out", str(self.folder), "--keep"]
        return ["evaluate", *evaluation.images, *place, *options, *metrics, *evaluation.options]

    @cached_property
    def _digest(self) -> str:
        images = files_digest(self.evaluation.images)
        return digest([self.words, images, dict(self.run.identity), dict(self.variant.codec)])

    @property
    def cost(self) -> dict[str, Any] | None:
        """Seconds and bytes of memory of the measuring; None where it is not done, or what is measured has changed."""
        try:
            record = json.loads((self.folder / "measured.json").read_bytes())
        except FileNotFoundError:
            return None
        return record if record["digest"] == self._digest else None

    def prepare(self) -> None:
        """Write the codec that is measured, where it is not the run's own."""
        if self.variant.codec:
            vary(self.run.run.codec, self.codec, self.variant.codec)

    def finish(self, *, seconds: float, memory: int) -> None:
        """Record that it is done."""
        record = {"digest": self._digest, "seconds": seconds, "memory": memory}
        write_whole(self.folder / "measured.json", json.dumps(record).encode())

    def results(self) -> Mapping[str, Any]:
        """Return the content of `results.json`."""
        return json.loads((self.folder / "results.json").read_bytes())


def measurements(study: Study, run: StudyRun) -> list[StudyMeasurement]:
    """Return what is measured of a run; nothing where the study names no images."""
    return list(_measurements(study, run)) if study.evaluation.images else []


def _measurements(study: Study, run: StudyRun) -> Iterator[StudyMeasurement]:
    for variant in run.variants:
        anchored = variant.name == BASE and run.seed == study.seeds[0]
        yield StudyMeasurement(run, variant, study.evaluation, study.evaluation.anchors if anchored else ())
