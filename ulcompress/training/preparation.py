"""What is learnt from data before the first optimiser step."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import final

import torch
from rich.console import Console
from rich.progress import track

from ulcompress.codec import Codec
from ulcompress.data import Batch
from ulcompress.functional import distributed
from ulcompress.part import Part, loadable


@loadable()
@final
class Preparation(Part):
    """Shows training batches to the parts of a codec that learn from them without gradients, one part after the other.

    Which parts those are the codec says: codebooks start from more than the vectors of the first batch. With several
    processes each one shows its own batches, and the parts reduce their statistics over all of them.
    """

    def __init__(self, *, batches: int = 0):
        """Set how many batches each part sees; ValueError for a negative number."""
        super().__init__()
        if batches < 0:
            raise ValueError(f"preparation.batches must be at least 0, got {batches}")
        self.batches = batches

    @torch.no_grad()
    def run(self, codec: Codec, data: Callable[[], Iterable[Batch]]) -> None:
        """Let the parts of a codec in training mode learn; their modes may be others afterwards.

        Args:
            codec: Its parts in evaluation mode learn nothing.
            data: Returns the training batches from the beginning; it is called again when they are used up.

        Raises:
            ValueError: A part cannot do without, and there are no batches.
        """
        for slot, learn in codec.preparations().items():
            batches = _shown(islice(_endless(data), self.batches), slot, self.batches)
            learn((batch.images.to(codec.device), batch.captions) for batch in batches)


def _endless(data: Callable[[], Iterable[Batch]]) -> Iterator[Batch]:
    while True:
        yield from data()


def _shown(batches: Iterable[Batch], slot: str, total: int) -> Iterable[Batch]:
    """Draw a progress bar in the first process."""
    console = Console(stderr=True, quiet=not distributed.is_first())
    return track(batches, f"preparing {slot}", total=total, console=console, transient=True)
