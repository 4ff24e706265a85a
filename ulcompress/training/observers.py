"""The callbacks and loggers of a run as named entries, which a file or the command line changes one by one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ulcompress.training.run import Run

Entries = dict[str, Any]
"""Parts by their names: a class name, `class_path` and `init_args`, or None for one that is left out."""

_LIGHTNING = "lightning.pytorch"


def default_callbacks(run: Run) -> Entries:
    """Return the callbacks of every run."""
    return {
        "checkpoint": {
            "class_path": f"{_LIGHTNING}.callbacks.ModelCheckpoint",
            "init_args": {
                "dirpath": str(run.checkpoints),
                "save_last": True,
                "save_top_k": 0,
                "every_n_train_steps": 500,
                "enable_version_counter": False,
            },
        },
        "interruption": {"class_path": "ulcompress.training.InterruptionCheckpoint"},
        "rate": {"class_path": "callbacks.RateLogger"},
        "reconstructions": {"class_path": "callbacks.ReconstructionGrid"},
        "learning_rate": {"class_path": f"{_LIGHTNING}.callbacks.LearningRateMonitor"},
        "gradient_norm": {"class_path": "callbacks.GradientNorm"},
        "throughput": {"class_path": "callbacks.Throughput"},
        "memory": {"class_path": "callbacks.Memory"},
    }


def default_loggers(run: Run) -> Entries:
    """Return the loggers of every run."""
    path = f"{_LIGHTNING}.loggers.CSVLogger"
    return {"csv": {"class_path": path, "init_args": {"save_dir": str(run.folder), "name": run.logs.name}}}


def named(parts: Any, defaults: Entries) -> Entries | None:
    """Return callbacks or loggers as named entries, also where they are a list, as experiments had before.

    A list stands for its parts alone, so that the observers among the defaults are left out; what ends and keeps a
    training stays.
    """
    if parts is None or parts is False:
        return None
    if parts is True:
        return {}
    if isinstance(parts, Mapping) and "class_path" not in parts:
        return dict(parts)
    kept = {"checkpoint", "interruption"}
    entries: Entries = {name: None for name in defaults if name not in kept}
    for part in parts if isinstance(parts, list) else [parts]:
        name = entry_name(part, defaults)
        entries[name if entries.get(name) is None else f"{name}_{len(entries)}"] = part
    return entries


def merged(earlier: Entries, later: Entries | None) -> Entries | None:
    """Return entries over which those of a later file are laid, argument by argument where the class is the same."""
    if later is None:
        return None
    return {name: _laid(earlier.get(name), later[name]) if name in later else earlier[name] for name in earlier | later}


def _laid(under: Any, over: Any) -> Any:
    if not (isinstance(under, Mapping) and isinstance(over, Mapping)):
        return over
    if _class(over) not in (None, _class(under)):
        return over
    arguments = {**(under.get("init_args") or {}), **(over.get("init_args") or {})}
    return {"class_path": over.get("class_path", under.get("class_path")), "init_args": arguments}


def entry_name(part: Any, defaults: Entries) -> str:
    """Return the name of a part: that of the default of its class, else its class in small letters."""
    kind = _class(part) or "none"
    known = {_class(default): name for name, default in defaults.items()}
    return known.get(kind) or re.sub(r"(?<!^)(?=[A-Z][a-z])", "_", kind.removesuffix("Logger")).lower()


def _class(part: Any) -> str | None:
    path = part.get("class_path") if isinstance(part, Mapping) else part
    return str(path).rpartition(".")[2] if path is not None else None
