"""Checkpoints on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from fsspec.utils import get_protocol
from lightning.fabric.plugins import TorchCheckpointIO

from ulcompress.files import whole_file


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes local checkpoints as all other files are written; those of object stores as Lightning does.

    Lightning itself writes to the folder for temporary files and moves, which is a copy where that is another file
    system, and a kill cuts it.
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
