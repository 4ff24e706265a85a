"""Which checkpoint a training goes on from."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import ModelCheckpoint

_LAST = re.compile(rf"{ModelCheckpoint.CHECKPOINT_NAME_LAST}(-v\d+)?\.ckpt")
_REQUEUED = re.compile(r"hpc_ckpt_(\d+)\.ckpt")


def find_checkpoint(options: Namespace) -> str | None:
    """Return the path that `ckpt_path` stands for: of the newest `last`, of what a requeued job has left, or itself.

    Lightning finds it out when the model has been built, too late to build it as the checkpoint has it. `last` is None
    where none exists yet, so that one command begins a training and goes on with it.

    Args:
        options: What a verb was asked for.

    Raises:
        ValueError: No callback says where the last checkpoint is.
    """
    path = options.get("ckpt_path")
    if path == "last":
        return _newest(_folders(options))
    if path == "hpc" or (path is None and SLURMEnvironment.detect()):
        return _requeued(Path(options.trainer.default_root_dir or ".")) or path
    return path


def _folders(options: Namespace) -> list[Path]:
    folders = [Path(init.dirpath) for init in _checkpointing(options.trainer.callbacks) if init.get("dirpath")]
    if not folders:
        raise ValueError("no ModelCheckpoint with a `dirpath` says where `last` is; give the checkpoint's own path")
    return folders


def _checkpointing(callbacks: Any) -> Iterator[Namespace]:
    """Yield the arguments of the callbacks that write checkpoints."""
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        if callback is not None and callback.class_path.rpartition(".")[2] == ModelCheckpoint.__name__:
            yield callback.init_args


def _newest(folders: list[Path]) -> str | None:
    found = [path for folder in folders for path in folder.glob("*.ckpt") if _LAST.fullmatch(path.name)]
    return str(max(found, key=lambda path: path.stat().st_mtime)) if found else None


def _requeued(folder: Path) -> str | None:
    found = {int(match[1]): path for path in folder.glob("*.ckpt") if (match := _REQUEUED.fullmatch(path.name))}
    return str(found[max(found)]) if found else None
