"""A study before it runs: what each variant changes, whether it builds, and what is left to do."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ulcompress.commands.nominal import describe_codec
from ulcompress.training.run import flat
from ulcompress.training.study.configuration import Difference, build, differences
from ulcompress.training.study.measurement import measurements
from ulcompress.training.study.outcome import StudyOutcome
from ulcompress.training.study.plan import DONE, StudyRun
from ulcompress.training.study.process import Process
from ulcompress.training.study.study import Variant
from ulcompress.training.study.words import words

TRAINED_BYTES, HELD_BYTES = 12, 4
"""In a checkpoint: weight and two moments of a trained parameter in float32, and the weight alone of another."""
CODEC_BYTES = 2
TIMED_STEPS = 6
"""Steps of a training from which the time of one is measured, without the first."""


@dataclass(frozen=True)
class Preview:
    """What the training of one or more variants, of any seed, amounts to."""

    titles: tuple[str, ...]
    """The variants that share it, with what they change in how the codec is used."""
    runs: tuple[StudyRun, ...]
    differences: tuple[Difference, ...]
    """To the base."""
    error: str | None
    """Why it cannot be built."""
    parameters: int = 0
    trained: int = 0
    """Parameters that the optimiser changes."""
    nominal: tuple[str, ...] = ()
    """Lines on its nominal bits."""
    averaged: bool = False
    """Whether a checkpoint holds a moving average beside the weights."""

    @property
    def disk(self) -> int:
        """Bytes of a run's last checkpoint and codec, without logs and pictures."""
        held = self.trained * TRAINED_BYTES + (self.parameters - self.trained) * HELD_BYTES
        return held + self.parameters * (HELD_BYTES * self.averaged + CODEC_BYTES)


def previews(outcome: StudyOutcome) -> list[Preview]:
    """Return a preview of each training, the base's first; each is built once, in this process."""
    groups: dict[str, list[StudyRun]] = {}
    for run in outcome.runs:
        groups.setdefault(run.variants[0].name, []).append(run)
    base = outcome.runs[0].configuration
    return [_preview(runs, base) for runs in groups.values()]


def _preview(runs: Sequence[StudyRun], base: Mapping[str, Any]) -> Preview:
    configuration, changed = runs[0].configuration, tuple(differences(base, runs[0].configuration))
    titles = tuple(_title(variant, shared=configuration is base) for variant in runs[0].variants)
    try:
        model = build(configuration)
    except ValueError as error:
        return Preview(titles, tuple(runs), changed, str(error))
    parameters = list(model.parameters())
    codec = configuration["model"].get("init_args", {}).get("codec")
    return Preview(
        titles=titles,
        runs=tuple(runs),
        differences=changed,
        error=None,
        parameters=sum(parameter.numel() for parameter in parameters),
        trained=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        nominal=tuple(describe_codec(codec)) if codec else (),
        averaged=any("MovingAverage" in str(value) for key, value in flat(configuration) if key.endswith("class_path")),
    )


def _title(variant: Variant, *, shared: bool) -> str:
    """Name a variant, with what it changes in use; `shared` says whether its training is the base's."""
    used = [str(variant.setting)] if str(variant.setting) else []
    used += [f"codec.{key}: {value}" for key, value in variant.codec.items()]
    used += ["changes nothing"] if shared and (variant.files or variant.options) and not used else []
    return f"{variant.name} ({', '.join(used)})" if used else variant.name


def describe(outcome: StudyOutcome, *, time: bool = False) -> tuple[str, bool]:
    """Return a study before it runs as text, and whether all of it can be built.

    Args:
        outcome: The study as it is now.
        time: Measure a step where no run of the study tells how long one takes; this trains for a few steps.
    """
    found = previews(outcome)
    lines, hours, disk, unknown = [], 0.0, 0, 0
    for preview in found:
        left = [run for run in preview.runs if outcome.state(run) != DONE]
        seconds = None if preview.error else _seconds(preview, time)
        steps = preview.runs[0].configuration["trainer"].get("max_steps") or -1
        each = seconds * steps / 3600 if seconds is not None and steps > 0 else None
        lines += [*_lines(preview, outcome, seconds, each), ""]
        hours += len(left) * (each or 0)
        unknown += len(left) * (each is None)
        disk += len(left) * preview.disk
    left = sum(outcome.state(run) != DONE for run in outcome.runs)
    free = shutil.disk_usage(_existing(outcome.runs[0].run.root)).free
    times = [f"{hours:.2g} hours"] if hours or not unknown else []
    times += [f"{unknown} runs of unknown time (--time measures a step)"] if unknown else []
    needed = " and ".join(times)
    lines.append(
        f"{len(outcome.runs)} runs: {len(outcome.runs) - left} done, {left} left; {needed}, one after another; "
        f"{disk / 2**30:.2g} GiB of {free / 2**30:.3g} GiB free"
    )
    return "\n".join(lines), all(preview.error is None for preview in found)


def _lines(preview: Preview, outcome: StudyOutcome, seconds: float | None, hours: float | None) -> Iterator[str]:
    yield "; ".join(preview.titles)
    yield from (f"  {difference}" for difference in preview.differences)
    if preview.error:
        yield f"  cannot be built: {preview.error}"
    else:
        yield f"  builds: {preview.parameters:,} parameters, {preview.trained:,} of them trained"
        yield from preview.nominal
        time = (
            "" if seconds is None else f", {seconds:.3g} s a step" + ("" if hours is None else f", {hours:.2g} hours")
        )
        yield f"  each run: {preview.disk / 2**20:.0f} MiB{time}"
    for run in preview.runs:
        wanted = measurements(outcome.study, run)
        measured = f", {sum(one.cost is not None for one in wanted)} of {len(wanted)} measured" if wanted else ""
        trained = "trained" if run.trained else "not trained"
        yield f"  seed {run.seed}: {outcome.state(run)} ({trained}{measured}), {run.run.folder}"


def _seconds(preview: Preview, time: bool) -> float | None:
    """Return the seconds of one step: of the runs of the past, or else, where it is wanted, of one for it."""
    known = [_measured(run) for run in preview.runs]
    return next((seconds for seconds in known if seconds), None) or (_timed(preview.runs[0]) if time else None)


def _measured(run: StudyRun) -> float | None:
    steps = run.run.record.get("step") or 0
    seconds = sum(attempt.seconds.get("fit", 0.0) for attempt in run.attempts.all())
    return seconds / steps if run.trained and steps else None


def brief(configuration: Mapping[str, Any]) -> list[str]:
    """Return the options with which a training ends after some steps, prepared by at most one batch."""
    trainer = {"trainer.max_steps": TIMED_STEPS, "trainer.log_every_n_steps": 1, "trainer.limit_val_batches": 0}
    # A whitening cannot do without any batch.
    prepared = {key: min(value, 1) for key, value in flat(configuration) if key.endswith("preparation.batches")}
    return words(prepared | trainer)


def _timed(run: StudyRun) -> float | None:
    """Train for some steps in a folder of its own."""
    with TemporaryDirectory() as folder:
        place = ["--name", "timed", "--root", folder, "--trainer.enable_progress_bar", "false"]
        line = ["fit", *run.fit_words, *brief(run.configuration), *place]
        ending = Process(line, Path(folder) / "log", environment={}).wait(lambda: True)
        if ending.status:
            raise ValueError(f"{run.title}: a step could not be measured: {ending.reason}")
        rates = [
            float(row["train/images-per-second"]) for row in _logged(Path(folder)) if row.get("train/images-per-second")
        ]
    images = run.configuration["data"]["batch_size"] * (
        run.configuration["trainer"].get("accumulate_grad_batches") or 1
    )
    return images / (sum(rates[1:]) / len(rates[1:])) if rates[1:] else None


def _logged(folder: Path) -> Iterator[dict[str, str]]:
    for path in folder.rglob("metrics.csv"):
        with suppress(OSError), path.open(newline="") as file:
            yield from csv.DictReader(file)


def _existing(folder: Path) -> Path:
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
