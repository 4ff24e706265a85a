"""Base class of the quantisers that map every position to one index into a finite set."""

from abc import abstractmethod
from collections.abc import Iterator
from math import log2

import torch
from torch import Tensor, nn

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.entropy import EntropyModel, StagedEntropy, StaticEntropy
from ulcompress.entropy.staged import Captions
from ulcompress.quantizers.base import Quantizer


class IndexQuantizer(Quantizer):
    """A quantiser whose symbols are indices, (B, h, w), coded by an entropy model.

    To a model for stages, `ContextModel` for instance, it is a single one.
    """

    size: int
    """Number of different indices."""

    def __init__(self, *, size: int, dimension: int, entropy: EntropyModel | StagedEntropy | None):
        """Attach the entropy model (static by default) for indices of `size` entries, vectors of length `dimension`."""
        super().__init__()
        self.size = size
        self.entropy = entropy if entropy is not None else StaticEntropy()
        if isinstance(self.entropy, StagedEntropy):
            self.entropy.build([(size, 0, dimension)])
        else:
            self.entropy.build(size)

    @property
    @abstractmethod
    def entries(self) -> Tensor:
        """The vectors of all indices, (size, dimension)."""

    @property
    def saved_entries(self) -> Tensor:
        """The entries as a saved codec has them, the same numbers on every machine; on the CPU."""
        return self.entries.detach().cpu()

    @property
    def reads_captions(self) -> bool:
        """Whether the entropy model does."""
        return isinstance(self.entropy, StagedEntropy) and self.entropy.reads_captions

    def learns_from_rate(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the entropy model."""
        return self.entropy.parameters()

    def observe(self, symbols: Tensor) -> None:
        """Take indices, (B, h, w), into the statistics of the entropy model."""
        if isinstance(self.entropy, StagedEntropy):
            self.entropy.observe(0, symbols)
        else:
            self.entropy.observe(symbols)

    def bits(self, symbols: Tensor, captions: Captions = None) -> Tensor:
        """Estimate the bits of each image's indices: (B, h, w) to (B,), with the entropy model's gradients."""
        if not isinstance(self.entropy, StagedEntropy):
            return self.entropy.bits(symbols)
        spent = []

        def choose(positions: Tensor, costs: Tensor) -> Tensor:
            chosen = symbols.flatten(1)[:, positions]
            spent.append(costs.gather(-1, chosen[..., None]).sum((1, 2)))
            return chosen

        entries = self.entries.detach() if self.training else self.saved_entries.to(symbols.device)
        self.entropy.scan(0, _nothing_earlier(symbols.shape, entries), entries, choose, captions)
        return torch.stack(spent).sum(0)

    def write(self, symbols: Tensor, coder: ArithmeticEncoder, captions: Captions = None) -> None:
        """Code the indices of one image, (1, h, w)."""
        if isinstance(self.entropy, StagedEntropy):
            entries = self.saved_entries
            earlier = _nothing_earlier(symbols.shape, entries)
            self.entropy.write(0, earlier, entries, symbols.cpu(), coder, captions)
        else:
            self.entropy.write(symbols, coder)

    def read(self, coder: ArithmeticDecoder, grid: tuple[int, int], captions: Captions = None) -> Tensor:
        """Read the indices of one image, (1, h, w)."""
        if isinstance(self.entropy, StagedEntropy):
            entries = self.saved_entries
            return self.entropy.read(0, _nothing_earlier((1, *grid), entries), entries, coder, captions)
        return self.entropy.read(coder, grid)

    def alphabets(self, symbols: Tensor) -> list[tuple[Tensor, int]]:
        """Return the indices with the size of their alphabet."""
        return [(symbols, self.size)]

    def fixed_length_bits(self, rows: int, columns: int) -> list[float]:
        """Return the bits of one index for each position of a grid of this size."""
        return [rows * columns * log2(self.size)]


def _nothing_earlier(shape: tuple[int, ...], entries: Tensor) -> Tensor:
    """Return the sum of no earlier stages, (B, 0, h, w)."""
    return entries.new_zeros(shape[0], 0, *shape[1:])
