"""A training run: its name, its folder, and what is recorded there of how it came about."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

import ulcompress
from ulcompress.files import write_whole

RUNNING, DONE, INTERRUPTED, FAILED = STATES = ("running", "done", "interrupted", "failed")
"""States of a run. One whose process was killed is still `running`."""
PACKAGES = ("ulcompress", "torch", "torchvision", "lightning", "numpy", "diffusers", "transformers", "compressai")
"""Packages whose versions are recorded, where they are installed."""
UNCOMPARED = ("ckpt_path", "config", "overwrite", "weights_only")
"""Keys of the command line that say how a run is started, not what runs."""


@dataclass(frozen=True)
class Run:
    """A run's place: everything of it lies in `root/name`."""

    name: str
    root: Path = Path("runs")

    def __post_init__(self) -> None:
        """Raise ValueError for a name that would lead out of the root."""
        path = Path(self.name)
        if not path.parts or path.is_absolute() or ".." in path.parts:
            raise ValueError(f"got the name {self.name!r} for a run; give a relative path without `..`")

    @property
    def folder(self) -> Path:
        """Folder of everything."""
        return self.root / self.name

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints; training continues from the newest `last.ckpt`."""
        return self.folder / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        """Checkpoint of the last step that was kept."""
        return self.checkpoints / "last.ckpt"

    @property
    def logs(self) -> Path:
        """Folder of the loggers."""
        return self.folder / "logs"

    @property
    def reconstructions(self) -> Path:
        """Folder of the pictures that callbacks write."""
        return self.folder / "reconstructions"

    @property
    def codec(self) -> Path:
        """Codec directory, exported at the end of the training."""
        return self.folder / "codec"

    @property
    def configuration(self) -> dict[str, Any]:
        """The resolved configuration that was recorded last; empty for a run that has none."""
        try:
            return yaml.safe_load((self.folder / "config.yaml").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}

    @property
    def record(self) -> dict[str, Any]:
        """The content of `run.json`: name, state, step, commit, versions and command; empty for a run without."""
        try:
            return json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}

    def update(self, **entries: Any) -> None:
        """Change entries of `run.json`."""
        content = json.dumps(self.record | entries, indent=2) + "\n"
        write_whole(self.folder / "run.json", content.encode())

    def clear(self) -> None:
        """Remove what an earlier run of this name has left."""
        for folder in (self.checkpoints, self.logs, self.reconstructions, self.codec):
            shutil.rmtree(folder, ignore_errors=True)
        for file in ("config.yaml", "run.json"):
            (self.folder / file).unlink(missing_ok=True)

    def begin(self, configuration: Mapping[str, Any], *, command: list[str], continues: bool = False) -> None:
        """Record what runs from now on, in place of an earlier record.

        Args:
            configuration: Resolved, as plain data, from which the run can be built again.
            command: Words of the command line, without the program's name.
            continues: Whether the run goes on, so that what others have recorded of it stays.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not continues:
            (self.folder / "run.json").unlink(missing_ok=True)
        content = yaml.safe_dump(self._portable(configuration), sort_keys=False, allow_unicode=True)
        write_whole(self.folder / "config.yaml", content.encode())
        self.update(
            name=self.name,
            state=RUNNING,
            started=_now(),
            ended=None,
            error=None,
            seed=configuration.get("seed_everything"),
            command=command,
            **commit(),
            versions=versions(),
        )

    def differences(self, configuration: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Return the keys whose values differ, with that of the record and the other; None where one is absent."""
        recorded, asked = (dict(flat(self._portable(each))) for each in (self.configuration, configuration))
        return {
            key: (recorded.get(key), asked.get(key))
            for key in dict.fromkeys((*asked, *recorded))
            if recorded.get(key) != asked.get(key)
        }

    def _portable(self, configuration: Mapping[str, Any]) -> dict[str, Any]:
        """Return what runs, without the places in this run's folder, so that another run of it has its own."""
        kept = {key: value for key, value in configuration.items() if key not in UNCOMPARED}
        return kept | ({"trainer": self._without_places(kept["trainer"])} if "trainer" in kept else {})

    def _without_places(self, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {key: self._without_places(each) for key, each in value.items() if not self._is_place(each)}

    def _is_place(self, value: Any) -> bool:
        return isinstance(value, str) and self.folder in (Path(value), *Path(value).parents)

    @contextmanager
    def state_recorded(self) -> Iterator[None]:
        """Record how the block ends: `done`, `interrupted` by a signal, or `failed` with the error's message."""
        try:
            yield
        except (SystemExit, KeyboardInterrupt):
            self.update(state=INTERRUPTED, ended=_now())
            raise
        except BaseException as error:
            self.update(state=FAILED, ended=_now(), error=" ".join(str(error).split()) or type(error).__name__)
            raise
        self.update(state=DONE, ended=_now())


def flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values within nested dictionaries by their keys on a command line, where `init_args` is left out."""
    if not isinstance(value, Mapping):
        yield key, value
        return
    for name, each in value.items():
        yield from flat(each, key if name == "init_args" else f"{key}.{name}".lstrip("."))


def commit() -> dict[str, Any]:
    """Return `commit`, the git commit of this package's source, and `dirty`, whether files differ; None without git."""
    try:
        head, changes = (_git(*words) for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno")))
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
    return {"commit": head, "dirty": bool(changes)}


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide how a training goes."""
    return {name: number for name in PACKAGES if (number := _version(name)) is not None}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*words: str) -> str:
    command = ["git", "-C", str(Path(ulcompress.__file__).parent), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
