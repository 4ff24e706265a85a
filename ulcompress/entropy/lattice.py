"""The network of a `ContextModel` in exact arithmetic, evaluated only where something is new or asked for.

The positions of a map lie on four lattices, those of even or odd rows and columns. As sums are exact, the first
convolution is brought up to date by what a lattice adds when its indices become known, and the second one is evaluated
on a lattice alone: a quarter of the work that a whole map takes in every pass. Both are sums of matrix products, one
for each place of the kernel, over channels that come last: in float64 they take half the time of PyTorch's
convolutions.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ulcompress.entropy.exact import bounded, bounded_, check_range, on_saved_grid
from ulcompress.functional.division import ceil_div

AT_ONCE = 1 << 11
"""Positions of a large map that are evaluated at once, which bounds the memory."""
_MARGIN = 2
"""Positions around the map that the first convolution, 5x5, writes to."""


class Lattice(NamedTuple):
    """Every other row and column, from these on."""

    row: int
    column: int

    def of(self, maps: Tensor) -> Tensor:
        """Return the part of maps, (..., h, w), that lies on the lattice; a view."""
        return maps[..., self.row :: 2, self.column :: 2]

    def beside(self, maps: Tensor, row: int, column: int, size: Sequence[int]) -> Tensor:
        """Return `size` rows and columns of maps, (B, h, w, C), so far below and right of the lattice; a view."""
        return maps[:, self.row + row :: 2, self.column + column :: 2][:, : size[0], : size[1]]


class LatticeNetwork:
    """Evaluates 5x5, rectifier, 3x3, rectifier, 1x1 on maps whose indices become known lattice by lattice."""

    @torch.no_grad()
    def __init__(self, trunk: nn.Sequential, head: nn.Conv2d, earlier: Tensor, entries: Tensor, caption: Tensor):
        """Take the layers, the sum of the earlier stages, (B, C, h, w), and the entries of this stage, (size, D).

        `caption`, (B, width) float64 on the CPU, is added to what the first convolution gives everywhere.
        """
        first, second = trunk[0], trunk[2]
        assert isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d)
        weight, bias = on_saved_grid(first)
        assert bias is not None
        biases = bias + caption
        check_range(first, weight, biases)
        second_weight, self._bias = on_saved_grid(second)
        self._second, self._head = _by_places(second_weight), on_saved_grid(head)
        self._rows, self._columns = earlier.shape[-2:]
        self._height = 2 * max(1, AT_ONCE // (2 * self._columns))  # even, so that all strips have the same lattices
        flag = torch.ones(len(entries), 1, dtype=torch.float64)
        self._entries = torch.cat([bounded(entries), flag], 1)
        # Turned around, for each position of the input what it adds to the positions around it.
        self._added = _by_places(weight[:, earlier.shape[1] :].flip(2, 3))
        sides = self._rows + 2 * _MARGIN, self._columns + 2 * _MARGIN
        self._sums = biases[:, None, None].repeat(1, *sides, 1)
        self._hidden = self._sums.new_empty(len(earlier), self._rows, self._columns, second.out_channels)
        self._evaluated: set[tuple[Lattice, int]] = set()
        if earlier.shape[1]:
            self._add_earlier(bounded(earlier), weight[:, : earlier.shape[1]])

    @torch.no_grad()
    def add(self, positions: Tensor, indices: Tensor) -> None:
        """Let the indices of whole lattices become known: all positions of them, (n,), in the map, (B, h * w)."""
        maps = indices.cpu().unflatten(1, (self._rows, self._columns))
        for lattice in self._lattices(positions.cpu()):
            for top, bottom in self._strips():
                entries = self._entries[lattice.of(maps[:, top:bottom])]
                for row, column, weight in self._added:
                    sums = lattice.beside(self._sums[:, top:], row, column, entries.shape[1:3])
                    sums += entries @ weight
        self._evaluated.clear()

    @torch.no_grad()
    def scores(self, positions: Tensor) -> Tensor:
        """Return the scores of all indices at positions, (n,), counted row by row: (B, n, size) float64."""
        positions = positions.cpu()
        strips = (positions // (self._columns * self._height)).unique().tolist()
        for lattice in self._lattices(positions):
            for strip in strips:
                if (lattice, strip) not in self._evaluated:
                    self._evaluated.add((lattice, strip))
                    self._evaluate(lattice, *self._rows_of(strip))
        weight, bias = self._head
        return bounded_(F.linear(self._hidden.flatten(1, 2)[:, positions], weight.flatten(1), bias))

    def _lattices(self, positions: Tensor) -> list[Lattice]:
        kinds = (2 * (positions // self._columns % 2) + positions % self._columns % 2).unique()
        return [Lattice(kind >> 1, kind & 1) for kind in kinds.tolist()]

    def _evaluate(self, lattice: Lattice, top: int, bottom: int) -> None:
        hidden = self._hidden[:, top + lattice.row : bottom : 2, lattice.column :: 2]
        # With one position more to each side, which is zero outside of the map.
        inner = bounded_(self._sums[:, top + 1 : bottom + 3, 1 : self._columns + 3].clone()).clamp_min_(0)
        inner[:, :, [0, -1]] = 0
        inner[:, : 1 if top == 0 else 0] = 0
        inner[:, bottom - top + (1 if bottom == self._rows else 2) :] = 0
        assert self._bias is not None
        sums = self._bias.repeat(hidden[..., 0].numel(), 1)
        for row, column, weight in self._second:
            sums.addmm_(lattice.beside(inner, row, column, hidden.shape[1:3]).flatten(0, 2), weight)
        hidden.copy_(bounded_(sums).clamp_min_(0).view(hidden.shape))

    def _add_earlier(self, earlier: Tensor, weight: Tensor) -> None:
        padded = F.pad(earlier, [_MARGIN] * 4)
        for top, bottom in self._strips():
            sums = self._sums[:, _MARGIN + top : _MARGIN + bottom, _MARGIN:-_MARGIN]
            sums += F.conv2d(padded[..., top : bottom + 2 * _MARGIN, :], weight).movedim(1, -1)

    def _strips(self) -> Iterator[tuple[int, int]]:
        """Yield first row and end of all strips of the map."""
        return map(self._rows_of, range(ceil_div(self._rows, self._height)))

    def _rows_of(self, strip: int) -> tuple[int, int]:
        return strip * self._height, min((strip + 1) * self._height, self._rows)


def _by_places(weight: Tensor) -> list[tuple[int, int, Tensor]]:
    """Return row, column and matrix, (inputs, outputs), of each place of a kernel, (outputs, inputs, rows, columns)."""
    rows, columns = weight.shape[-2:]
    return [(row, column, weight[..., row, column].T.contiguous()) for row in range(rows) for column in range(columns)]
