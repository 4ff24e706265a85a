"""Linear least squares from sums of products, which batches and processes add up."""

import torch
from torch import Tensor

RIDGE = 1e-6
"""Added to the squares of the inputs, as a share of their mean, so that one without any variation has no weight."""


def coefficients(squares: Tensor, products: Tensor) -> Tensor:
    """Return the linear map of least squared error from inputs to outputs, as `products` in shape.

    Args:
        squares: Sums of the products of the inputs with one another, (I, I), float64.
        products: Those of the inputs with the outputs, (I, O), or (I,) of a single output.
    """
    ridge = RIDGE * squares.diagonal().mean() * torch.eye(len(squares), dtype=squares.dtype, device=squares.device)
    return torch.linalg.solve(squares + ridge, products)
