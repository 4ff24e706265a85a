"""A data loader that continues an interrupted epoch at the batch where training stopped."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from ulcompress.data.batch import Batch
from ulcompress.data.sampler import EpochSampler
from ulcompress.functional.cores import limit_decoders


def begin_worker(worker: int) -> None:
    """Limit a worker of a loader to one thread, and let it ignore signals that end its process group.

    The training step in progress may still need its batch; the worker ends with its loader or its parent process.
    """
    limit_decoders(1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


class ResumableLoader(DataLoader):
    """A loader whose position can be saved and loaded, in the sense of Lightning's stateful data loaders.

    The position counts the batches that were handed out, not those that workers prepared in advance. The batches before
    it are skipped without being loaded. It also counts their images, of all processes together, so that an epoch goes
    on where it was with another number of processes too.

    It takes `dataset` and `sampler` and the options of DataLoader.
    """

    def __init__(self, dataset: Any, *, sampler: Any, **options: Any):
        # A separate generator, so that a loader does not advance the random numbers of the model.
        options.setdefault("generator", torch.Generator())
        super().__init__(dataset, sampler=sampler, **options)
        self._position = {"epoch": 0, "batches": 0, "images": 0}
        self._resumed: dict[str, int] | None = None

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of the sampler's epoch; only the first one after `load_state_dict` may start midway."""
        # This is a generator because Lightning asks for the iterator before it sets the epoch: nothing may be
        # drawn until the first batch is requested.
        epoch = getattr(self.sampler, "epoch", 0)
        resumed, self._resumed = self._resumed, None
        begun = resumed if resumed and resumed["epoch"] == epoch else {"epoch": epoch, "batches": 0, "images": 0}
        if isinstance(self.sampler, EpochSampler):  # Trainer(overfit_batches=...) replaces it
            self.sampler.start = begun["images"]
        self._position = dict(begun)
        for batch in super().__iter__():
            self._position["batches"] += 1
            self._position["images"] += self._plan()["global_batch_size"]
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch, the number of its batches that were handed out, and the `plan` that determines them."""
        return {**self._position, "plan": self._plan()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next iteration continue at a saved position; warns where other data or batches make that inexact."""
        was, now = state_dict["plan"], self._plan()
        # Checkpoints from before positions counted images hold batches of one size.
        images = state_dict.get("images", state_dict["batches"] * was["global_batch_size"])
        if was != now:
            message = f"training continues with {now}, it began with {was}: the batches will differ"
            if was | {"global_batch_size": 0} == now | {"global_batch_size": 0}:
                message += f"; the epoch goes on behind its first {images} images, none of which comes again in it,"
                message += f" and ends with its batch {len(self)} at the latest"
            warnings.warn(message, stacklevel=2)
        self._resumed = {"epoch": state_dict["epoch"], "batches": state_dict["batches"], "images": images}
        self._position = dict(self._resumed)
        if isinstance(self.sampler, EpochSampler):
            self.sampler.set_epoch(state_dict["epoch"])

    def _plan(self) -> dict[str, int]:
        replicas = getattr(self.sampler, "num_replicas", 1)
        return {
            "images": len(self.dataset),  # type: ignore
            "global_batch_size": (self.batch_size or 1) * replicas,
            "seed": getattr(self.sampler, "seed", 0),
        }
