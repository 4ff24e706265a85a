"""The order in which training sees the images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import DistributedSampler


class Draw(NamedTuple):
    """One random view of an image; the epoch travels with the index so that workers need no state."""

    epoch: int
    index: int


class EpochSampler(DistributedSampler):
    """A permutation of `size` images for each epoch, from seed and epoch alone, dealt out to the processes.

    Batch k of all `num_replicas` processes together holds the images that one process would see as its batch k with
    a batch size that is `num_replicas` times larger. Every process gets equally many, so a few images at the end of
    the permutation may be left out. Lightning leaves a DistributedSampler alone and calls its `set_epoch`.
    """

    start: int = 0
    """How many draws of this process are skipped when the next iteration begins."""

    def __init__(self, *, size: int, seed: int = 0, num_replicas: int = 1, rank: int = 0):
        super().__init__(range(size), num_replicas, rank, shuffle=True, seed=seed, drop_last=True)  # type: ignore

    def __iter__(self) -> Iterator[Draw]:
        """Yield this process's draws of the current epoch, from `start` on."""
        epoch = self.epoch
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.dataset))  # type: ignore
        mine = order[self.rank :: self.num_replicas][: self.num_samples]
        return (Draw(epoch, int(index)) for index in mine[self.start :])
