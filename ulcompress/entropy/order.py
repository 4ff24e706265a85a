"""The order in which the positions of a map are coded, so that any beginning of it is spread over the whole map."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ulcompress.coding.arithmetic import ArithmeticDecoder, SymbolTable
from ulcompress.entropy.inference import nearest_known

LEVELS = 14
"""Bits of a row or column; images have at most 2^14 rows and columns."""


def spread(rows: int, columns: int) -> Tensor:
    """Return all positions, (h * w,) int64, counted row by row, in the order of an ordered-dither matrix.

    The first quarter has even rows and even columns, the second odd rows and odd columns, and within each the same
    holds for the halved rows and columns, and so on: a low-discrepancy order in integers, for a map of any size.

    Source: Bayer, An optimum method for two-level rendition of continuous-tone pictures, ICC 1973.
    """
    row, column = torch.arange(rows)[:, None], torch.arange(columns)
    rank = torch.zeros(rows, columns, dtype=torch.int64)
    for level in range(LEVELS):
        odd_row, odd_column = row >> level & 1, column >> level & 1
        rank = rank << 2 | (odd_row ^ odd_column) << 1 | odd_row
    return rank.flatten().argsort()


def order_of(shape: Sequence[int], *, by_rows: bool) -> Tensor:
    """Return the order of symbols of a shape: `spread` for a map, (h, w), unless it is coded row by row; else as is."""
    if len(shape) == 2 and not by_rows:
        return spread(shape[0], shape[1])
    return torch.arange(torch.Size(shape).numel())


def in_order(symbols: Tensor, *, by_rows: bool) -> list[int]:
    """Return the symbols of one image, (1, ...), in their order."""
    return symbols.flatten().cpu()[order_of(symbols.shape[1:], by_rows=by_rows)].tolist()


def read_map(table: SymbolTable, coder: ArithmeticDecoder, shape: Sequence[int]) -> Tensor:
    """Read symbols of one table and undo `in_order`: (1, *shape), int64, on the CPU.

    Positions of a map that a message which was cut does not hold take the symbol of the nearest one that it holds.
    """
    order = order_of(shape, by_rows=coder.by_rows)
    symbols, held = [], []
    for _ in range(len(order)):
        symbols.append(table.decode(coder))
        held.append(not coder.ended)
    placed, known = torch.empty(len(order), dtype=torch.int64), torch.empty(len(order), dtype=torch.bool)
    placed[order], known[order] = torch.tensor(symbols, dtype=torch.int64), torch.tensor(held, dtype=torch.bool)
    filled = nearest_known(placed.view(*shape), known.view(*shape)) if len(shape) == 2 else placed
    return filled.view(1, *shape)
