"""Symbols that a message which was cut does not hold."""

from collections.abc import Iterable

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from ulcompress.coding.arithmetic import ArithmeticDecoder, SymbolTable


def decoded(tables: Iterable[SymbolTable], coder: ArithmeticDecoder) -> tuple[list[int], int]:
    """Return a symbol of each table, and how many of them the message holds; the others are the most probable ones."""
    symbols, held = [], 0
    for table in tables:
        symbols.append(table.decode(coder))
        held += not coder.ended
    return symbols, held


def nearest_known(symbols: Tensor, known: Tensor) -> Tensor:
    """Let each position of a map, (h, w), that is not known take the symbol of the nearest one that is, if any."""
    if known.all() or not known.any():
        return symbols
    nearest = distance_transform_edt(~known.numpy(), return_distances=False, return_indices=True)
    rows, columns = torch.from_numpy(np.asarray(nearest)).long()
    return symbols[rows, columns]
