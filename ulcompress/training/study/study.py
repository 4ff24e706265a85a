"""A study as its file states it: a base, variants, seeds, and what is measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ulcompress.evaluation.measuring.contestants import Setting
from ulcompress.files import read_yaml
from ulcompress.training.study.grid import combinations

BASE = "base"
"""Name of the variant without a change."""
_SECTIONS = ("base", "options", "budget", "variants", "seeds", "evaluate")
_BUDGET = ("max_steps", "max_epochs", "max_time")
_EVALUATE = ("images", "settings", "metrics", "anchors", "weights", "options")


@dataclass(frozen=True)
class Variant:
    """A change to the base."""

    name: str
    files: tuple[Path, ...] = ()
    """Experiments that are laid over the base."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of `ulcompress fit` by their full keys, `model.codec.conditioning.text` for instance."""
    setting: Setting = field(default_factory=Setting)
    """How its codec is used. A variant that has nothing else needs no training of its own."""
    codec: Mapping[str, Any] = field(default_factory=dict)
    """Options of the exported codec that leave its weights as they are, `decoder.boundary.patch` for instance."""


@dataclass(frozen=True)
class MeasurementPlan:
    """What is measured of every trained codec, as `ulcompress evaluate` takes it."""

    images: tuple[str, ...] = ()
    settings: tuple[Setting, ...] = (Setting(),)
    metrics: tuple[str, ...] = ()
    anchors: tuple[str, ...] = ()
    """Measured beside the base with its first seed alone."""
    weights: str | None = None
    """Folder of the metrics' weights."""
    options: tuple[str, ...] = ()
    """Further words of the command line."""


@dataclass(frozen=True)
class Study:
    """The content of a study's file."""

    name: str
    """The file's name, which is that of its folder below the root."""
    base: tuple[Path, ...]
    """Experiments, each laid over the earlier ones."""
    variants: tuple[Variant, ...]
    """The base first."""
    seeds: tuple[int, ...]
    evaluation: MeasurementPlan
    budget: Mapping[str, Any] = field(default_factory=dict)
    """Of each training: `max_steps`, `max_epochs`, `max_time`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of all runs, the base among them, by their full keys."""

    def with_images(self, images: Sequence[str]) -> Study:
        """Return the study with other images to be measured on, unless there are none."""
        return replace(self, evaluation=replace(self.evaluation, images=tuple(images))) if images else self


def read_study(path: Path) -> Study:
    """Read a study from YAML; files that it names are relative to its folder.

    Raises:
        ValueError: The file cannot be read, or states something unknown; one line names the key.
    """
    content = read_yaml(path, kind="study", section="base")
    _known(content, _SECTIONS, str(path))
    base = _files(content.get("base"), path.parent)
    if not base:
        raise ValueError(f"{path} has no `base`; name one or more experiments")
    seeds = tuple(content.get("seeds") or (0,))
    if not all(type(seed) is int and seed >= 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise ValueError(f"{path} has the seeds {list(seeds)}; give different integers from 0 on")
    try:
        variants = (Variant(BASE), *_variants(content.get("variants") or {}, path.parent))
        _refuse_twins(variants)
        evaluation = _evaluation(content.get("evaluate") or {}, path.parent)
        _known(budget := content.get("budget") or {}, _BUDGET, "budget")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return Study(path.stem, base, variants, seeds, evaluation, budget, content.get("options") or {})


def _variants(content: Mapping[str, Any], folder: Path) -> Iterator[Variant]:
    for name, change in content.items():
        if str(name) == BASE:
            raise ValueError(f"a variant is called {BASE!r}, as the base itself; give it another name")
        if not isinstance(change, Mapping):
            yield Variant(str(name), files=_files(change, folder))
            continue
        change = dict(change)
        for suffix, options in combinations(change.pop("grid", {})):
            yield _variant(f"{name} {suffix}".strip(), change, options, folder)


def _variant(name: str, change: Mapping[str, Any], options: Mapping[str, Any], folder: Path) -> Variant:
    change = {**change, **options}
    files, setting, codec = (change.pop(key, None) for key in ("files", "setting", "codec"))
    for key in change:
        if "." not in key:
            raise ValueError(
                f"variant {name!r} has {key!r}; give options such as model.codec.decoder.steps, or {_KEYS}"
            )
    return Variant(name, _files(files, folder), change, Setting.parse(setting) if setting else Setting(), codec or {})


_KEYS = "files, setting, codec, grid"


def _evaluation(content: Mapping[str, Any], folder: Path) -> MeasurementPlan:
    _known(content, _EVALUATE, "evaluate")
    listed = {key: tuple(map(str, _listed(content.get(key)))) for key in ("images", "metrics", "anchors", "options")}
    settings = tuple(Setting.parse(text) for text in _listed(content.get("settings"))) or (Setting(),)
    return MeasurementPlan(settings=settings, weights=content.get("weights"), **listed)


def _files(value: Any, folder: Path) -> tuple[Path, ...]:
    files = tuple(folder / str(name) for name in _listed(value))
    for file in files:
        if not file.is_file():
            raise ValueError(f"no file {file}; paths in a study are relative to its folder")
    return files


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _known(content: Any, names: Sequence[str], where: str) -> None:
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} is a {type(content).__name__}; give {', '.join(names)}")
    for key in content:
        if key not in names:
            raise ValueError(f"{where} has {key!r}; give {', '.join(names)}")


def _refuse_twins(variants: Sequence[Variant]) -> None:
    name, count = Counter(variant.name for variant in variants).most_common(1)[0]
    if count > 1:
        raise ValueError(f"two variants are called {name!r}; give each a name of its own")
