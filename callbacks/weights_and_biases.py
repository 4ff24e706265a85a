"""Weights & Biases as a run's logger: one id and one history, without a network and without a question."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from callbacks.transaction_log import history
from ulcompress.foundation.artifacts import logged_in
from ulcompress.training.run_logger import RunLogger

STEP = "trainer/global_step"
"""The metric that all others are drawn over."""
FLUSH_SECONDS = 1.0
"""Between two writes of W&B's file: what a killed process loses at most."""
UNITS = {
    "bpp/*": ("bits per pixel of files", "min"),
    "*/rate/*": ("estimated bits per pixel", "min"),
    "val/psnr*": ("dB", "max"),
    "*/usage*": ("share of the codebook's entries in a batch", None),
    "*/perplexity*": ("entries", None),
    "lr-*": ("learning rate", None),
    "*/squared_error": ("squared, of values in [0, 1]", "min"),
    "memory/*": ("GiB", "max"),
    "train/images-per-second": ("images a second", "max"),
    "train/gradient-norm": ("L2 norm, before it is clipped", None),
    "train/*": ("loss term", "min"),
    "val/*": ("loss term", "min"),
}
"""Units of metrics by patterns of their names, the first that fits, and what their summary shows beside the last."""


class WeightsAndBiases(WandbLogger, RunLogger):
    """Logs a run to W&B: online where you are logged in, else to files that `wandb sync` uploads.

    A training that continues keeps the id of its run, which its checkpoint holds. What the killed process had logged
    after that checkpoint is not logged again: an exact continuation repeats it to the bit, and W&B cannot take rows
    back. (So a continuation with other options belongs under another `--name`, which gets an id of its own.) Without a
    network every process leaves a folder `wandb/offline-run-<time>-<id>`; give all of them to one `wandb sync`, which
    appends them to each other. A process that is killed loses what was logged within its last second.
    """

    def __init__(
        self,
        *,
        save_dir: str = ".",
        project: str = "ulcompress",
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        job_type: str | None = None,
        notes: str | None = None,
        id: str | None = None,
        mode: Literal["online", "offline", "disabled"] | None = None,
    ):
        """Say where the run is shown.

        Args:
            save_dir: Folder of W&B's files.
            project: Name on W&B's page.
            entity: User or team; yours if None.
            name: Of the run; that of `--name` if None.
            group: Runs that belong together, those of a study for instance.
            tags: Words to find the run by.
            job_type: What the run does within its group, such as `seed 1`.
            notes: Text about the run.
            id: W&B's; that of the checkpoint if None, or else a new one.
            mode: None takes WANDB_MODE, and where that is not set `online` for who is logged in, else `offline`.
        """
        import wandb

        mode = mode or os.environ.get("WANDB_MODE") or ("online" if logged_in() else "offline")  # pyright: ignore[reportAssignmentType]
        super().__init__(
            save_dir=save_dir,
            project=project,
            entity=entity,
            name=name,
            group=group,
            tags=list(tags),
            job_type=job_type,
            notes=notes,
            id=id,
            mode=mode,
            settings=wandb.Settings(x_transaction_log_flush_interval=FLUSH_SECONDS),
        )
        del self._wandb_init["anonymous"]  # 2026-11: Lightning 2.6 sets what W&B warns about
        self._units: dict[str, tuple[str, str | None]] = dict(UNITS)
        self._defined: set[str] = set()
        self._logged: dict[str, int] = {}
        self._logged_until = -1

    def describe_run(self, record: Mapping[str, Any], configuration: Mapping[str, Any]) -> None:
        """Take the run's name, and its configuration with commit, versions and command."""
        self._name = self._wandb_init["name"] = self._name or record.get("name")
        self._wandb_init["config"] = {**configuration, "run": dict(record)}

    def describe_metric(self, name: str, unit: str, better: str) -> None:
        """Let W&B's summary show the best value of a metric, `higher` or `lower`, and its configuration the unit."""
        self._units = {name: (unit, "max" if better == "higher" else "min")} | self._units

    def state_dict(self) -> dict[str, Any]:
        """Return the id, and the name of the run that it belongs to."""
        return {"id": self.version, "name": self._name}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on under the same id, where the run has the same name and no other id was chosen."""
        if self._id is None and state.get("name") == self._name:
            self._id = self._wandb_init["id"] = state.get("id")

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """W&B's run, begun at the first use."""
        if self._experiment is None:
            Path(self.save_dir or ".").mkdir(parents=True, exist_ok=True)
            self._find_logged(run := super().experiment)
            self._defined = set()
            return run
        return super().experiment

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Log a module's hyperparameters, where the configuration of the run does not hold them already."""
        if "config" not in self._wandb_init:
            super().log_hyperparams(params)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log what an earlier process of this run has not logged yet."""
        run = self.experiment
        if step is not None:
            metrics = {name: value for name, value in metrics.items() if step > self._last_step(name)}
        for name in metrics.keys() - self._defined:
            self._define(run, name)
        if metrics:
            super().log_metrics(metrics, step)

    @rank_zero_only
    def log_codec(self, directory: Path, measured: Mapping[str, float]) -> None:
        """Log a codec directory as an artifact, for `ulcompress.load("wandb:entity/project/name:version")`."""
        import wandb

        from ulcompress.pretrained import FILES, metadata

        name = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in self._name or "codec")
        card = (directory / "README.md").read_text(encoding="utf-8")
        about = {"measured": dict(measured), **metadata(directory)}
        artifact = wandb.Artifact(name, type="codec", description=card, metadata=about)
        for file in FILES:
            artifact.add_file(str(directory / file), name=file)
        self.experiment.log_artifact(artifact, aliases=["latest"])

    @rank_zero_only
    def close(self, *, succeeded: bool) -> None:
        """End W&B's run, so that another one can begin in this process."""
        if self._experiment is not None:
            import wandb

            self._experiment.finish(exit_code=0 if succeeded else 1)
            self._experiment = None
            wandb.teardown()  # its own process ends, and only then is the file complete

    def _define(self, run: Any, name: str) -> None:
        self._defined.add(name)
        unit, summary = next((found for pattern, found in self._units.items() if fnmatch(name, pattern)), (None, None))
        if unit is not None:
            # By its whole name, since the first pattern that W&B has, Lightning's `*`, would hide the summary.
            run.define_metric(name, step_metric=STEP, summary=summary)
            run.config.update({"units": {**run.config.get("units", {}), name: unit}}, allow_val_change=True)

    def _find_logged(self, run: Any) -> None:
        """Find the last step of each metric in the files of this id, or where they are elsewhere, on W&B's page."""
        for path in Path(self.save_dir or ".").glob(f"wandb/*run-*-{run.id}/run-{run.id}.wandb"):
            for row in history(path) if path.parent != Path(run.dir).parent else ():
                self._logged |= {name: max(row.get(STEP, -1), self._logged.get(name, -1)) for name in row}
        if run.resumed and not self._logged:
            self._logged_until = int(run.summary.get(STEP, -1))
        if last := max(*self._logged.values(), self._logged_until, 0):
            rank_zero_info(f"W&B's run {run.id} goes on; what it has already, up to step {last}, is not logged again.")

    def _last_step(self, name: str) -> int:
        """Return the last step of a metric, or of the table that stands for a plot."""
        return max(self._logged.get(key, self._logged_until) for key in (name, f"{name}_table"))
