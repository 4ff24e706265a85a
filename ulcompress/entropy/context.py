"""Probabilities of a codebook's indices, predicted by a network from the indices that were coded before."""

from collections.abc import Iterator, Sequence
from math import log, log2
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from ulcompress.coding.arithmetic import TOTAL, ArithmeticDecoder, ArithmeticEncoder, SymbolTables
from ulcompress.entropy.exact import ACTIVATION_BITS
from ulcompress.entropy.inference import nearest_known
from ulcompress.entropy.lattice import LatticeNetwork
from ulcompress.entropy.order import order_of
from ulcompress.entropy.staged import Captions, Choose, StagedEntropy
from ulcompress.entropy.words import WordVectors
from ulcompress.part import loadable

LARGEST_ALPHABET = 1 << 13
"""Most indices of a codebook: the sums of as many counts, times the total of a table, stay below 2**63."""
SCORES = 1 << 17
"""Scores that are computed at once outside training: few enough for the processor's cache."""
_STEPS = 1 << ACTIVATION_BITS
_COUNT_BITS = 24
_POWERS = np.exp2(_COUNT_BITS - np.arange(_STEPS) / _STEPS).round().astype(np.int32)
"""2**24 halved in 1024 equal steps. None lies so near a half that a library could round it another way (a test)."""
_COUNTS = torch.from_numpy((_POWERS >> np.arange(_COUNT_BITS + 2)[:, None]).ravel())
"""The same, halved on until nothing is left."""


@loadable()
class ContextModel(StagedEntropy):
    """Predicts the probability of each index at each position of a stage, where the stages refine one another.

        sum of the earlier stages' entries ─────┐
        entries of this stage, where known ─────┼─► 5x5 ─► (+) ─► ReLU ─► 3x3 ─► ReLU ─► 1x1 ─► scores of all indices
        where they are known ───────────────────┘           ▲
                                  words of the caption ─────┘

    The positions of a stage come in three passes; each sees the passes before it, whatever the size of the image:

        1 3 1 3
        3 2 3 2      a quarter without neighbours, a quarter with the four at its corners, half with those at its sides
        1 3 1 3

    Scores are logarithms to the base of two, up to a constant. In training they are floats with gradients; in use the
    network runs in exact arithmetic (`entropy.exact`) and its scores become integer counts, so that a file decodes on
    every machine. The receptive field reaches three positions to each side: when training crops have maps smaller than
    seven positions, positions inside larger images cost more bits than necessary.

    Sources: He et al., Checkerboard Context Model for Efficient Learned Image Compression, CVPR 2021 (passes in place
    of a scan); Lee, Kim, Kim, Cho and Han, Autoregressive Image Generation using Residual Quantization, CVPR 2022,
    section 3.2 (stages one after the other).
    """

    def __init__(self, *, width: int = 64, words: int = 0):
        """Take the sizes of the networks.

        Args:
            width: Channels of the hidden layers.
            words: Vectors for the words of captions, which then tell something of the indices; 0 reads no caption.
                Words are spread over them by a hash, so fewer than there are common words would mix these up.

        Raises:
            ValueError: `width` is less than 1, or `words` negative.
        """
        super().__init__()
        if width < 1:
            raise ValueError(f"the width of a ContextModel must be at least 1, got {width}")
        if words < 0:
            raise ValueError(f"the words of a ContextModel must be 0 or more, got {words}")
        self.width = width
        self.words = words
        self.trunks = nn.ModuleList()
        self.heads = nn.ModuleList()
        self.captions = nn.ModuleList()

    @property
    def reads_captions(self) -> bool:
        """Whether it has vectors for words."""
        return self.words > 0

    def build(self, stages: Sequence[tuple[int, int, int]]) -> None:
        """Make the networks of stages: the size of each codebook, the channels of earlier stages and of its entries.

        At first all indices are equally likely. ValueError for a codebook of more than 8192 entries.
        """
        for size, earlier_channels, channels in stages:
            if size > LARGEST_ALPHABET:
                raise ValueError(f"a ContextModel takes codebooks of at most {LARGEST_ALPHABET} entries, got {size}")
            self.trunks.append(
                nn.Sequential(
                    nn.Conv2d(earlier_channels + channels + 1, self.width, 5, padding=2),
                    nn.ReLU(),
                    nn.Conv2d(self.width, self.width, 3, padding=1),
                    nn.ReLU(),
                )
            )
            head = nn.Conv2d(self.width, size, 1)
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)  # pyright: ignore[reportArgumentType]
            self.heads.append(head)
            if self.words:
                self.captions.append(WordVectors(self.words, self.width))

    def observe(self, stage: int, indices: Tensor) -> None:
        """Take nothing: the networks learn by gradients."""

    def scan(self, stage: int, earlier: Tensor, entries: Tensor, choose: Choose, captions: Captions = None) -> Tensor:
        """Let `choose` decide the indices of one stage in three passes and return them, (B, h, w)."""

        def choose_by_costs(positions: Tensor, scores: Tensor) -> Tensor:
            costs = _costs(scores)
            # No symbol of a coding table costs more.
            return choose(positions, (costs if self.training else costs.clamp_max(log2(TOTAL))).to(earlier))

        return self._scan(stage, earlier, entries, choose_by_costs, captions, exactly=not self.training)

    def write(
        self,
        stage: int,
        earlier: Tensor,
        entries: Tensor,
        indices: Tensor,
        coder: ArithmeticEncoder,
        captions: Captions = None,
    ) -> None:
        """Code the indices of one image, (1, h, w)."""

        def write_pass(positions: Tensor, scores: Tensor) -> Tensor:
            coded = indices.flatten(1)[:, positions]
            tables_of(scores[0]).encode(coded[0].tolist(), coder)
            return coded

        self._scan(stage, earlier, entries, write_pass, captions, exactly=True, by_rows=coder.by_rows)

    def read(
        self, stage: int, earlier: Tensor, entries: Tensor, coder: ArithmeticDecoder, captions: Captions = None
    ) -> Tensor:
        """Read the indices of one image, (1, h, w)."""
        grid = earlier.shape[-2:]
        known, symbols = torch.zeros(grid.numel(), dtype=torch.bool), torch.zeros(grid.numel(), dtype=torch.int64)

        def read_pass(positions: Tensor, scores: Tensor) -> Tensor:
            read, held = tables_of(scores[0]).decode(coder)
            symbols[positions], known[positions[:held]] = torch.tensor(read), True
            if stage == 0 and coder.ended and _is_first_pass(positions, grid[1]):
                # Nothing but the symbols themselves tells of the others in this pass.
                return nearest_known(symbols.view(grid), known.view(grid)).flatten()[positions][None]
            return symbols[positions][None]

        return self._scan(stage, earlier, entries, read_pass, captions, exactly=True, by_rows=coder.by_rows)

    def _scan(
        self,
        stage: int,
        earlier: Tensor,
        entries: Tensor,
        choose: Choose,
        captions: Captions,
        *,
        exactly: bool,
        by_rows: bool = True,
    ) -> Tensor:
        images, grid = len(earlier), earlier.shape[-2:]
        kind: Any = LatticeNetwork if exactly else _FloatNetwork
        caption = self._caption(stage, [""] * images if captions is None else captions, exactly=exactly)
        network = kind(self.trunks[stage], self.heads[stage], earlier, entries, caption)
        indices = torch.zeros(images, grid.numel(), dtype=torch.int64, device=earlier.device)
        passes = [positions.to(earlier.device) for positions in _passes(grid[0], grid[1], by_rows=by_rows)]
        for number, positions in enumerate(passes):
            for part in positions.split(max(1, SCORES // len(entries))) if exactly else (positions,):
                # Part by part, so that a damaged file is found before the network has been run on all of a large image.
                indices[:, part] = choose(part, network.scores(part))
            if number + 1 < len(passes):
                network.add(positions, indices)
        return indices.unflatten(1, grid)

    def _caption(self, stage: int, captions: Sequence[str], *, exactly: bool) -> Tensor:
        """Return what captions add to the first hidden layer, (B, width)."""
        if not self.words:
            return torch.zeros(len(captions), self.width)
        vectors: Any = self.captions[stage]
        return vectors.exact(captions) if exactly else vectors(captions)


class _FloatNetwork:
    """Evaluates the layers of a stage with gradients; methods and shapes are those of `LatticeNetwork`."""

    def __init__(self, trunk: nn.Sequential, head: nn.Module, earlier: Tensor, entries: Tensor, caption: Tensor):
        self._first, self._others, self._head = trunk[0], trunk[1:], head
        self._earlier, self._entries = earlier, entries
        self._caption = caption.to(entries)[..., None, None]
        images, grid = len(earlier), earlier.shape[-2:]
        self._known = torch.zeros(1, 1, grid.numel(), device=earlier.device)
        self._see(torch.zeros(images, grid.numel(), dtype=torch.int64, device=earlier.device))

    def add(self, positions: Tensor, indices: Tensor) -> None:
        self._known[..., positions] = 1
        self._see(indices)

    def scores(self, positions: Tensor) -> Tensor:
        return rearrange(self._head(self._hidden[..., positions, None]), "b k n 1 -> b n k")

    def _see(self, indices: Tensor) -> None:
        entries = rearrange(self._entries[indices], "b n d -> b d n") * self._known
        known = torch.cat([entries, self._known.expand(len(indices), -1, -1)], 1)
        seen = torch.cat([self._earlier, known.unflatten(2, self._earlier.shape[-2:])], 1)
        self._hidden = self._others(self._first(seen) + self._caption).flatten(2)


def _costs(scores: Tensor) -> Tensor:
    """Return the bits of all symbols for their scores: (..., alphabet) to the same shape."""
    return scores.mul(log(2)).logsumexp(-1, keepdim=True).div(log(2)) - scores


def tables_of(scores: Tensor) -> SymbolTables:
    """Make a table of integer probabilities from each row of exact scores, (n, alphabet)."""
    below = (scores - scores.amax(1, keepdim=True)).mul_(-_STEPS).clamp_max_(len(_COUNTS) - 1).int()
    counts = _COUNTS.index_select(0, below.flatten()).view_as(below)
    return SymbolTables(counts.cumsum(1, dtype=torch.int64).numpy())


def _is_first_pass(positions: Tensor, columns: int) -> bool:
    return int(positions[0]) // columns % 2 == 0 and int(positions[0]) % columns % 2 == 0


def _passes(rows: int, columns: int, *, by_rows: bool = True) -> Iterator[Tensor]:
    """Yield the positions of each pass, (n,), counted row by row and in this order, or spread over the map.

    Passes without any positions are left out.
    """
    row = torch.arange(rows)[:, None] % 2
    column = torch.arange(columns) % 2
    order = order_of((rows, columns), by_rows=by_rows)
    for where in ((row == 0) & (column == 0), (row == 1) & (column == 1), row != column):
        if where.any():
            yield order[where.flatten()[order]]
