"""The order in which training sees the images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import DistributedSampler


class Draw(NamedTuple):
    """One random view of an image; the epoch travels with the index so that workers need no state."""

    epoch: int
    index: int
    crop: int | None = None
    """Side of the crop in pixels; None for that of the dataset."""


class EpochSampler(DistributedSampler):
    """A permutation of `size` images for each epoch, from seed and epoch alone, dealt out to the processes.

    Batch k of all `num_replicas` processes together holds the images that one process would see as its batch k with
    a batch size that is `num_replicas` times larger. Every process gets equally many, so a few images at the end of
    the permutation may be left out. Lightning leaves a DistributedSampler alone and calls its `set_epoch`.

    With `crops`, in pixels, every batch of `batch_size` has one of these sides, drawn anew, the same in all processes.
    """

    start: int = 0
    """Number of this process's draws that the next iteration skips."""

    def __init__(
        self,
        *,
        size: int,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
        crops: Sequence[int] = (),
        batch_size: int = 1,
    ):
        super().__init__(range(size), num_replicas, rank, shuffle=True, seed=seed, drop_last=True)  # type: ignore
        self.crops = crops
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[Draw]:
        """Yield this process's draws of the current epoch, from `start` on."""
        epoch = self.epoch
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(len(self.dataset))  # type: ignore
        mine = order[self.rank :: self.num_replicas][: self.num_samples]
        drawn = rng.choice(self.crops, len(mine) // self.batch_size + 1).tolist() if self.crops else None
        for place in range(self.start, len(mine)):
            yield Draw(epoch, int(mine[place]), drawn[place // self.batch_size] if drawn else None)
