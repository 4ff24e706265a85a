"""Checkpoints on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from fsspec.utils import get_protocol
from lightning.fabric.plugins import TorchCheckpointIO

from ulcompress.files import whole_file
from ulcompress.pretrained.upgrades import upgrade_checkpoint


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes local checkpoints as all other files are written, and reads those of earlier formats.

    Lightning itself writes to the folder for temporary files and moves, which is a copy where that is another file
    system, and a kill cuts it. Checkpoints in object stores are written as Lightning does.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; raises OSError."""
        if storage_options is not None or get_protocol(str(path)) not in ("file", "local"):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(str(path).partition("://")[2] or path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(target) as file:
            torch.save(checkpoint, file)

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the content of a checkpoint in the present format, as `TorchCheckpointIO` reads it."""
        return upgrade_checkpoint(super().load_checkpoint(*args, **kwargs))
