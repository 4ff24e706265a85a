"""The order in which training sees the images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import DistributedSampler

WINDOW = 10_000
"""Images among which those of shards are shuffled, unless the caller says otherwise."""


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

    With `streams`, the numbers of images in the shards, the shards are permuted, and their images in one row of
    `window` images after another: then the images of a few shards only are wanted at a time.
    """

    start: int = 0
    """Number of draws of all processes together that the next iteration skips."""

    def __init__(
        self,
        *,
        size: int,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
        crops: Sequence[int] = (),
        batch_size: int = 1,
        streams: Sequence[int] | None = None,
        window: int = WINDOW,
    ):
        super().__init__(range(size), num_replicas, rank, shuffle=True, seed=seed, drop_last=True)  # type: ignore
        self.crops = crops
        self.batch_size = batch_size
        self.streams = streams
        self.window = window

    def __iter__(self) -> Iterator[Draw]:
        """Yield this process's draws of the current epoch, from `start` on."""
        epoch = self.epoch
        rng = np.random.default_rng((self.seed, epoch))
        rest = self._order(rng)[self.start :]
        mine = rest[self.rank :: self.num_replicas][: len(rest) // self.num_replicas]
        first = self.start // (self.batch_size * self.num_replicas)
        drawn = rng.choice(self.crops, first + len(mine) // self.batch_size + 1).tolist() if self.crops else None
        for place, index in enumerate(mine):
            yield Draw(epoch, int(index), drawn[first + place // self.batch_size] if drawn else None)

    def _order(self, rng: np.random.Generator) -> np.ndarray:
        """Return the permutation, in 4 bytes an image."""
        order = np.arange(len(self.dataset), dtype=np.uint32)  # type: ignore
        if self.streams is None:
            rng.shuffle(order)
            return order
        shards = np.split(order, np.cumsum(self.streams)[:-1])
        order = np.concatenate([shards[shard] for shard in rng.permutation(len(shards))])
        for start in range(0, len(order), self.window):
            rng.shuffle(order[start : start + self.window])
        return order
