"""Probabilities of a codebook's indices, told by a network from what is known before them."""

from collections.abc import Iterator, Sequence
from math import log, log2

import numpy as np
import torch
from torch import Tensor, nn

from ulcompress.coding.arithmetic import TOTAL, ArithmeticDecoder, ArithmeticEncoder, SymbolTable
from ulcompress.entropy.exact import ACTIVATION_BITS, exact
from ulcompress.entropy.staged import Choose, StagedEntropy
from ulcompress.part import loadable

LARGEST_ALPHABET = 1 << 13
"""Most indices of a codebook: the sums of as many counts, times the total of a table, stay below 2**63."""
SCORES = 1 << 22
"""Numbers that are computed at once in use, so that a large image does not need much memory."""
AT_ONCE = 1 << 11
"""Positions of a large image whose surroundings the network sees at once, for the same reason."""
REACH = 3
"""Positions around one that the network looks at."""
_STEPS = 1 << ACTIVATION_BITS
_COUNT_BITS = 24
_COUNTS = np.exp2(_COUNT_BITS - np.arange(_STEPS) / _STEPS).round().astype(np.int64)
"""2**24 halved in 1024 equal steps. None lies so near a half that a library could round it another way (a test)."""


@loadable()
class ContextModel(StagedEntropy):
    """Tells how likely each index of a stage is at each position, of a quantiser whose stages refine one another.

        what the earlier stages stand for ──────┐
        entries of this stage, where known ─────┼─► 5x5 ─► ReLU ─► 3x3 ─► ReLU ─► 1x1 ─► scores of all indices
        where they are known ───────────────────┘

    The positions of a stage come in three passes; each sees the passes before it, whatever the size of the image:

        1 3 1 3
        3 2 3 2      a quarter without neighbours, a quarter with the four at its corners, half with those at its sides
        1 3 1 3

    Scores are logarithms to the base of two, up to a constant. In training they are floats with gradients; in use the
    network runs in exact arithmetic (`entropy.exact`) and its scores become integer counts, so that a file decodes on
    every machine. It looks at three positions around each: trained on crops whose maps are smaller than seven, it knows
    borders only, and the middle of larger images costs more bits than it should.

    Sources: He et al., Checkerboard Context Model for Efficient Learned Image Compression, CVPR 2021 (passes in place
    of a scan); Lee, Kim, Kim, Cho and Han, Autoregressive Image Generation using Residual Quantization, CVPR 2022,
    section 3.2 (stages one after the other).
    """

    def __init__(self, *, width: int = 64):
        """Take the number of channels of the layers within; ValueError below 1."""
        super().__init__()
        if width < 1:
            raise ValueError(f"the width of a ContextModel must be at least 1, got {width}")
        self.width = width
        self.trunks = nn.ModuleList()
        self.heads = nn.ModuleList()

    def build(self, stages: Sequence[tuple[int, int, int]]) -> None:
        """Make the networks of stages: the size of each codebook, the channels of earlier stages and of its entries.

        At first all indices are equally likely. ValueError for a codebook of more than 8192 entries.
        """
        for size, given, own in stages:
            if size > LARGEST_ALPHABET:
                raise ValueError(f"a ContextModel takes codebooks of at most {LARGEST_ALPHABET} entries, got {size}")
            self.trunks.append(
                nn.Sequential(
                    nn.Conv2d(given + own + 1, self.width, 5, padding=2),
                    nn.ReLU(),
                    nn.Conv2d(self.width, self.width, 3, padding=1),
                    nn.ReLU(),
                )
            )
            head = nn.Conv2d(self.width, size, 1)
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)  # pyright: ignore[reportArgumentType]
            self.heads.append(head)

    def observe(self, stage: int, indices: Tensor) -> None:
        """Take nothing: the networks learn by gradients."""

    def scan(self, stage: int, given: Tensor, entries: Tensor, choose: Choose) -> Tensor:
        """Go through the positions of one stage in three passes and return the indices there, (B, h, w)."""

        def told(positions: Tensor, scores: Tensor) -> Tensor:
            costs = _costs(scores)
            # What is coded has tables, in which nothing costs more.
            return choose(positions, (costs if self.training else costs.clamp_max(log2(TOTAL))).to(given))

        return self._scan(stage, given, entries, told, exactly=not self.training)

    def write(self, stage: int, given: Tensor, entries: Tensor, indices: Tensor, coder: ArithmeticEncoder) -> None:
        """Code the indices of one image, (1, h, w)."""

        def put(positions: Tensor, scores: Tensor) -> Tensor:
            own = indices.flatten(1)[:, positions]
            for table, index in zip(_tables(scores[0]), own[0].tolist(), strict=True):
                table.encode(index, coder)
            return own

        self._scan(stage, given, entries, put, exactly=True)

    def read(self, stage: int, given: Tensor, entries: Tensor, coder: ArithmeticDecoder) -> Tensor:
        """Read the indices of one image, (1, h, w)."""

        def take(positions: Tensor, scores: Tensor) -> Tensor:
            return torch.tensor([[table.decode(coder) for table in _tables(scores[0])]])

        return self._scan(stage, given, entries, take, exactly=True)

    def _scan(self, stage: int, given: Tensor, entries: Tensor, choose: Choose, *, exactly: bool) -> Tensor:
        images, grid = len(given), given.shape[-2:]
        trunk, head = self.trunks[stage], self.heads[stage]
        indices = torch.zeros(images, grid.numel(), dtype=torch.int64, device=given.device)
        known = torch.zeros(1, 1, grid.numel(), device=given.device)
        for positions in _passes(grid[0], grid[1], given.device):
            own = entries[indices].movedim(-1, 1) * known
            seen = torch.cat([given, *(x.unflatten(2, grid) for x in (own, known.expand(images, -1, -1)))], 1)
            hidden = None if exactly else trunk(seen).flatten(2)
            for part in positions.split(max(1, min(AT_ONCE, SCORES // len(entries)))):
                # A file that is damaged should end the reading here, before the network has seen all of a large image.
                there = _exactly_at(trunk, seen, part) if hidden is None else hidden[..., part, None]
                scores = (exact(head, there) if exactly else head(there))[..., 0].movedim(1, -1)
                indices[:, part] = choose(part, scores)
            known[..., positions] = 1
        return indices.unflatten(1, grid)


def _exactly_at(trunk: nn.Module, seen: Tensor, positions: Tensor) -> Tensor:
    """Evaluate at ascending positions, (n,), within the rows that they need: (B, C, n, 1).

    Sums that are exact are the same whatever else is computed with them.
    """
    columns = seen.shape[-1]
    first, last = (int(position) // columns for position in positions[[0, -1]])
    top = max(0, first - REACH)
    strip = exact(trunk, seen[..., top : last + REACH + 1, :]).flatten(2)
    return strip[..., positions.to(strip.device) - top * columns, None]


def _costs(scores: Tensor) -> Tensor:
    """Return the bits of all symbols, given their scores: (..., alphabet) to the same shape."""
    return scores.mul(log(2)).logsumexp(-1, keepdim=True).div(log(2)) - scores


def _tables(scores: Tensor) -> Iterator[SymbolTable]:
    """Make the integer probabilities of as many symbols as there are rows of exact scores, (n, alphabet)."""
    below = ((scores.max(1, keepdim=True).values - scores) * _STEPS).long().numpy()
    counts = _COUNTS[below % _STEPS] >> np.minimum(below // _STEPS, _COUNT_BITS + 1)
    size = counts.shape[1]
    # As `SymbolTable.from_counts` has it, for all rows at once.
    ends = counts.cumsum(1)
    ends = ends * (TOTAL - size) // ends[:, -1:] + np.arange(1, size + 1)
    return map(SymbolTable, np.pad(ends, [(0, 0), (1, 0)]))


def _passes(rows: int, columns: int, device: torch.device) -> Iterator[Tensor]:
    """Yield the positions of each pass, (n,), counted row by row; passes without any are left out."""
    row = torch.arange(rows, device=device)[:, None] % 2
    column = torch.arange(columns, device=device) % 2
    for where in ((row == 0) & (column == 0), (row == 1) & (column == 1), row != column):
        if where.any():
            yield where.flatten().nonzero()[:, 0]
