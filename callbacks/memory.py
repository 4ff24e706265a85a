"""The memory that a training takes."""

import resource
import sys
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in which the system counts the memory of a process."""


class Memory(Callback):
    """Logs the highest memory of the first process since its start, in GiB.

    `memory/process` is what the process held in the machine's memory, `memory/device` what its tensors took on a CUDA
    device.
    """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the memory."""
        pl_module.log_dict(_memory(pl_module.device))


def _memory(device: torch.device) -> dict[str, float]:
    held = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT}
    if device.type == "cuda":
        held["device"] = torch.cuda.max_memory_allocated(device)
    return {f"memory/{name}": float(size) / 2**30 for name, size in held.items()}
