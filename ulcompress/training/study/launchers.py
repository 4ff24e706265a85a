"""The runs of a study as jobs of a cluster, by submitit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from ulcompress.training.study.identity import code
from ulcompress.training.study.plan import StudyRun
from ulcompress.training.study.study import Study
from ulcompress.training.study.workers import Workers

CLUSTERS = ("slurm", "local", "debug")
"""SLURM, and submitit's stand-ins for it: processes of this machine, and this process."""


@dataclass
class StudyJob:
    """One run as a job, which is queued again when the cluster takes its machine away."""

    study: Study
    run: StudyRun
    retry: bool = False
    workers: Workers | None = field(default=None, compare=False)
    """While it runs."""

    def __call__(self) -> None:
        """Carry out the run; ValueError where the code has changed since it was submitted."""
        if code() != self.run.identity["code"]:
            raise ValueError("the code has changed since this job was submitted; run the study again")
        self.workers = Workers(self.study, [self.run], retry=self.retry, handle_signals=False)
        self.workers.work()

    def checkpoint(self) -> Any:
        """Let the training finish its step and write a checkpoint; submitit calls this at the cluster's signal."""
        from submitit.helpers import DelayedSubmission

        if self.workers is not None:
            self.workers.stop()
        return DelayedSubmission(replace(self, workers=None))


def launch(
    study: Study,
    runs: Sequence[StudyRun],
    *,
    cluster: str,
    folder: Path,
    throttle: int | None = None,
    options: Mapping[str, Any] | None = None,
    retry: bool = False,
) -> list[Any]:
    """Submit runs as an array of jobs, each with one run, and return submitit's jobs.

    Args:
        study: To which they belong.
        runs: Those that are left.
        cluster: One of `CLUSTERS`.
        folder: Of the jobs' logs.
        throttle: How many may run at a time; None for any number.
        options: Parameters of submitit, such as `timeout_min` and `slurm_partition`.
        retry: As for `Workers`.

    Raises:
        ValueError: submitit is not installed, or does not take a parameter.
    """
    try:
        import submitit
    except ImportError as error:
        raise ValueError("--launcher needs submitit; pip install 'ulcompress[slurm]'") from error
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        arrays = {"slurm_array_parallelism": throttle} if throttle and cluster == "slurm" else {}
        executor.update_parameters(name=study.name, **arrays, **(options or {}))
    except (NameError, RuntimeError, TypeError) as error:
        raise ValueError(f"submitit: {' '.join(str(error).split())}") from error
    if not runs:
        return []  # submitit warns of arrays without jobs
    with executor.batch():
        jobs = [executor.submit(StudyJob(study, run, retry)) for run in runs]
    return jobs


def parameters(texts: Sequence[str]) -> dict[str, Any]:
    """Read `timeout_min=240`, `slurm_partition=gpu` as submitit's parameters; ValueError for anything else."""
    for text in texts:
        if not text.partition("=")[2]:
            raise ValueError(f"got {text!r} for the cluster; write KEY=VALUE, such as timeout_min=240")
    return {text.partition("=")[0]: yaml.safe_load(text.partition("=")[2]) for text in texts}
