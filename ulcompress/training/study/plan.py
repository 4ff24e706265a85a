"""The runs of a study: which trainings its variants and seeds need, and where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ulcompress.evaluation.results.store import digest, slug
from ulcompress.training.run import Run
from ulcompress.training.study.attempts import FAILED, RUNNING, Attempt, Attempts
from ulcompress.training.study.configuration import resolve
from ulcompress.training.study.identity import identity
from ulcompress.training.study.study import Study, Variant
from ulcompress.training.study.words import words

MOST_FAILURES = 2
"""After which a run is not tried again."""
WAITING, INTERRUPTED, DONE = "waiting", "interrupted", "done"


_PLACE = Run("run")
"""Place of all runs while their configurations are compared."""


@dataclass(frozen=True)
class StudyRun:
    """One training of a study, and the variants that are measured with its codec."""

    run: Run
    """Its place."""
    seed: int
    identity: Mapping[str, str]
    """Digests of its configuration, data and code."""
    fit_words: tuple[str, ...]
    """Words of `ulcompress fit` that train it, without its place."""
    variants: tuple[Variant, ...]
    """The first one gave it its name; the others differ from that in how the codec is used."""
    configuration: Mapping[str, Any] = field(compare=False)
    """Resolved."""

    @property
    def title(self) -> str:
        """Name for people."""
        return f"{self.variants[0].name}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Folder of what the study itself keeps of the run."""
        return self.run.folder / "study"

    @cached_property
    def attempts(self) -> Attempts:
        """Who has carried it out."""
        return Attempts(self.folder / "attempts")

    @property
    def trained(self) -> bool:
        """Whether the training has ended and its codec is written."""
        return (self.folder / "trained").exists()


def plan(study: Study, *, root: Path = Path("runs"), data: Sequence[str] = ()) -> list[StudyRun]:
    """Return the runs of a study, of all seeds variant by variant.

    Variants with equal trainings share them.

    Args:
        study: As it was read.
        root: Folder of the runs; theirs are in `root/STUDY`.
        data: Further words of `ulcompress fit` for all runs: paths of data and weights.

    Raises:
        ValueError: The command line of a variant is wrong; the message names the variant.
    """
    return list(_plan(study, root, data))


def _plan(study: Study, root: Path, data: Sequence[str]) -> Iterator[StudyRun]:
    shared: dict[str, list[tuple[Variant, tuple[str, ...], dict[str, Any]]]] = {}
    for variant in study.variants:
        line = _line(study, variant, data)
        try:
            configuration = resolve([*line, "--name", _PLACE.name, "--root", str(_PLACE.root)])
            _refuse_shared_folders(configuration)
        except ValueError as error:
            raise ValueError(f"variant {variant.name!r}: {error}") from error
        shared.setdefault(digest(identity(configuration)), []).append((variant, line, configuration))
    for group in shared.values():
        variant, line, configuration = group[0]
        same = identity(configuration)
        for seed in study.seeds:
            seeded = (*line, *_seed_words(seed))
            key = digest([same, seed])[:8]
            run = Run(f"{study.name}/{folder_name(variant)}-s{seed}-{key}", root)
            yield StudyRun(run, seed, {**same, "seed": str(seed)}, seeded, tuple(v for v, *_ in group), configuration)


def _refuse_shared_folders(configuration: Mapping[str, Any]) -> None:
    for callback in (configuration["trainer"].get("callbacks") or {}).values():
        folder = ((callback or {}).get("init_args") or {}).get("dirpath")
        if folder is not None and _PLACE.folder not in Path(folder).parents:
            raise ValueError(f"all runs would write their checkpoints to {folder}; leave out `dirpath`")


def _line(study: Study, variant: Variant, data: Sequence[str]) -> tuple[str, ...]:
    budget = words({f"trainer.{key}": value for key, value in study.budget.items()})
    base = (*_experiments(study.base), *words(study.options))
    return (*base, *_experiments(variant.files), *budget, *data, *words(variant.options))


def _experiments(files: Sequence[Path]) -> list[str]:
    return [word for file in files for word in ("-c", str(file))]


def _seed_words(seed: int) -> list[str]:
    """The start, the noise and the order of the data are other ones with every seed, and the same for all variants."""
    return words({"seed_everything": seed, "model.seed": seed, "data.seed": seed})


def state(run: StudyRun, *, measured: bool) -> str:
    """Return the state of a run: waiting, running, interrupted, failed or done.

    `measured` says whether all that the study wants to be measured of it is.
    """
    if run.trained and measured:
        return DONE
    attempts = run.attempts.all()
    if not attempts:
        return WAITING
    if run.attempts.alive(attempts[-1]):
        return RUNNING
    if failures(attempts) >= MOST_FAILURES:
        return FAILED
    return WAITING if attempts[-1].state == FAILED else INTERRUPTED


def failures(attempts: Sequence[Attempt]) -> int:
    """Return how often a run has failed."""
    return sum(attempt.state == FAILED for attempt in attempts)


def folder_name(variant: Variant) -> str:
    """Return the name of a variant as that of a folder."""
    return slug(variant.name.replace(" ", "-"))
