"""Which checkpoint a training goes on from, and what may change then."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import ModelCheckpoint

from ulcompress.part import class_of, sources_of
from ulcompress.training.run import Run

_LAST = re.compile(rf"{ModelCheckpoint.CHECKPOINT_NAME_LAST}(-v\d+)?\.ckpt")
_REQUEUED = re.compile(r"hpc_ckpt_(\d+)\.ckpt")


def find_checkpoint(options: Namespace, run: Run) -> str | None:
    """Return the path that `ckpt_path` stands for: of the newest `last`, of what a requeued job has left, or itself.

    `last` is None where none exists yet, so that one command begins a training and goes on with it.

    Args:
        options: What a verb was asked for.
        run: The run, whose checkpoints are looked for beside those of the callbacks.
    """
    path = options.get("ckpt_path")
    if path == "last":
        return _newest([run.checkpoints, *_folders(options.trainer.callbacks)])
    if path == "hpc" or (path is None and SLURMEnvironment.detect()):
        return _requeued(Path(options.trainer.default_root_dir or ".")) or (None if path == "hpc" else path)
    return path


def is_own(path: str | None, options: Namespace, run: Run) -> bool:
    """Return whether a checkpoint is one of the run itself, not of another that it begins from."""
    folders = {folder.resolve() for folder in (run.folder, *_folders(options.trainer.callbacks))}
    return path is not None and not folders.isdisjoint(Path(path).resolve().parents)


def _folders(callbacks: Mapping[str, Namespace | None] | None) -> Iterator[Path]:
    """Yield the folders of the callbacks that write checkpoints."""
    for callback in (callbacks or {}).values():
        if callback is not None and callback.class_path.rpartition(".")[2] == ModelCheckpoint.__name__:
            yield Path(callback.init_args.dirpath)


def _newest(folders: Sequence[Path]) -> str | None:
    found = [path for folder in folders for path in folder.glob("*.ckpt") if _LAST.fullmatch(path.name)]
    return str(max(found, key=lambda path: path.stat().st_mtime)) if found else None


def _requeued(folder: Path) -> str | None:
    found = {int(match[1]): path for path in folder.glob("*.ckpt") if (match := _REQUEUED.fullmatch(path.name))}
    return str(found[max(found)]) if found else None


def check_continues(checkpoint: Mapping[str, Any], model: Mapping[str, Any], fixed: Sequence[str]) -> None:
    """Refuse to continue with other parts than those whose weights the checkpoint holds.

    Sources of weights may differ, as the checkpoint holds weights.

    Args:
        checkpoint: Its content.
        model: The arguments of the model that is to continue, as plain data, defaults included.
        fixed: Those of them that stay as they are in a continued training.

    Raises:
        ValueError: An argument differs; the message has its key and both values.
    """
    kept = checkpoint.get("hyper_parameters") or {}
    if not isinstance(kept, Mapping):
        raise ValueError(f"the checkpoint's hyperparameters are a {type(kept).__name__}; give another one")
    for name in fixed if kept else ():
        for key, was, now in _differences(f"model.{name}", _inner(kept, name), _inner(model, name)):
            raise ValueError(
                f"{key} is {_shown(now)} in the command and {_shown(was)} in the checkpoint, and cannot change in a "
                "continued training; give the checkpoint's value, or start a new training from its weights: "
                "`ulcompress export CHECKPOINT DIRECTORY`, then --model.start.codec DIRECTORY"
            )


def _inner(arguments: Mapping[str, Any], name: str) -> Any:
    value: Any = arguments
    for key in name.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _differences(name: str, was: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield what differs, by the name that it has on the command line; nothing that a checkpoint names is imported."""
    if not (isinstance(was, Mapping) and isinstance(now, Mapping)):
        if _listed(was) != _listed(now):
            yield name, was, now
        return
    if was.get("class_path") != now.get("class_path"):
        yield name, was, now
        return
    sources = (sources_of(class_of(now["class_path"])) or ()) if "class_path" in now else ()
    for key in (*was, *(key for key in now if key not in was)):
        if key == "init_args":
            arguments = ({k: v for k, v in (each.get(key) or {}).items() if k not in sources} for each in (was, now))
            yield from _differences(name, *arguments)
        elif key in was or isinstance(now[key], Mapping):  # else a new option of the code, at its default
            yield from _differences(f"{name}.{key}", was.get(key), now.get(key))


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("class_path", "another part")).rpartition(".")[2]
    return str(value)
