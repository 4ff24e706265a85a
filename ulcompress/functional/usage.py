"""How much of a quantiser's alphabet is in use."""

import torch
from torch import Tensor


def perplexity(symbols: Tensor) -> Tensor:
    """Return the exponential of the symbols' entropy: how many symbols, evenly used, would be as varied.

    `symbols` are integers of any shape; the result is a float32 scalar between 1 and the number of different symbols.
    """
    counts = symbols.unique(return_counts=True)[1]
    return torch.special.entr(counts / counts.sum()).sum().exp()


def usage(symbols: Tensor, size: int) -> Tensor:
    """Return the share of an alphabet of `size` symbols that occurs in `symbols`, integers of any shape.

    The result is a float32 scalar in (0, 1], on the device of the symbols.
    """
    return torch.tensor(symbols.unique().numel() / size, device=symbols.device)
