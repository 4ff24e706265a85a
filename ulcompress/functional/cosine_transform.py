"""The cosine transform of colour blocks: orthonormal, ordered by how much natural images use each function.

Source: Ahmed, Natarajan and Rao, Discrete Cosine Transform, IEEE Transactions on Computers, 1974: for a first-order
Markov process it is near the Karhunen-Loève transform. That process, with the correlation below, is the model here.
"""

import math

import torch
from torch import Tensor

CORRELATION = 0.95
"""Correlation of neighbouring pixels."""
DEVIATIONS = (0.42, 0.09, 0.06)
"""Standard deviations of grey, of red minus blue, and of both minus green: pixels in [0, 1], orthonormal colours."""


def cosine_basis(side: int, count: int) -> tuple[Tensor, Tensor]:
    """Return the functions that images use most, (count, 3, side, side), and the deviation of each one's coefficient.

    The functions are orthonormal, over blocks of RGB in [0, 1]; deviations, (count,), fall. There are 3 * side^2
    functions: ValueError for a larger count.
    """
    if not 1 <= count <= 3 * side**2:
        raise ValueError(f"blocks of {side} pixels have 1 to {3 * side**2} cosine functions, got {count}")
    rows = _cosines(side)
    spread = (rows @ _covariance(side) @ rows.T).diagonal().sqrt()
    # The product of the two spreads first: equal ones must be so to the bit, or the order would depend on the machine.
    deviations = torch.tensor(DEVIATIONS, dtype=torch.float64)[:, None, None] * (spread[:, None] * spread)
    order = deviations.flatten().argsort(descending=True, stable=True)[:count]
    functions = torch.einsum("kc,uy,vx->kuvcyx", colour_basis(), rows, rows).flatten(0, 2)
    return functions[order].float(), deviations.flatten()[order].float()


def colour_basis() -> Tensor:
    """Return grey, red minus blue, and both minus green as orthonormal rows over RGB, (3, 3), float64."""
    colours = torch.tensor([[1, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=torch.float64)
    return colours / colours.norm(dim=1, keepdim=True)


def block_basis(side: int, channels: int) -> Tensor:
    """Return the orthonormal cosine functions of blocks, (channels * side^2, channels, side, side), low ones first."""
    rows = _cosines(side)
    frequency = _positions(side)
    order = (frequency[:, None] + frequency).flatten().argsort(stable=True)
    functions = torch.einsum("uy,vx->uvyx", rows, rows).flatten(0, 1)[order]
    return torch.einsum("kyx,cd->kcdyx", functions, torch.eye(channels, dtype=torch.float64)).flatten(0, 1).float()


def _cosines(side: int) -> Tensor:
    """Return the orthonormal cosine functions of one dimension as rows, (side, side), float64."""
    position = _positions(side)
    rows = torch.cos(math.pi / side * position[:, None] * (position + 0.5)) * math.sqrt(2 / side)
    rows[0] /= math.sqrt(2)
    return rows


def _covariance(side: int) -> Tensor:
    position = _positions(side)
    return CORRELATION ** (position[:, None] - position).abs()


def _positions(side: int) -> Tensor:
    """Return 0, 1 ... side - 1; of data, since where allocation is limited `arange` imports the compiler of torch."""
    return torch.tensor(range(side), dtype=torch.float64)
