"""A lower bound that values can be learnt away from."""

from typing import Any

import torch
from torch import Tensor, nn


class LowerBound(nn.Module):
    """Returns max(x, bound), with a gradient also below the bound wherever a step of descent would raise x.

    Source: Ballé, Efficient Nonlinear Transforms for Lossy Image Compression, PCS 2018.
    """

    bound: Tensor

    def __init__(self, bound: float):
        super().__init__()
        self.register_buffer("bound", torch.tensor([bound]))

    def forward(self, x: Tensor) -> Tensor:
        """Return x, of any shape, where it is above the bound."""
        result = _Maximum.apply(x, self.bound)
        assert isinstance(result, Tensor)
        return result


class _Maximum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: Tensor) -> Tensor:
        ctx.save_for_backward(x, bound)
        return torch.max(x, bound)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        x, bound = ctx.saved_tensors
        (gradient,) = gradients
        return gradient * ((x >= bound) | (gradient < 0)), None
