"""Gradients of a quantisation, which has none; the value is the code to the bit, as the decoder will compute it."""

from torch import Tensor
from torch.nn import functional as F


def straight_through(values: Tensor, codes: Tensor) -> Tensor:
    """Return the codes; their gradient reaches the values as it is. Both of the same shape.

    Source: Bengio et al., arXiv 1308.3432, section 5.
    """
    return codes.detach() + (values - values.detach())


def rotated(vectors: Tensor, codes: Tensor) -> Tensor:
    """Return the codes; their gradient is turned by the rotation that leads from each code to its vector.

    Vectors and codes are (..., D) and of unit length, so the rotation alone maps one to the other. The gradient makes
    the same angle with the vector as it made with the code.

    Source: Fifty et al., Restructuring Vector Quantization with the Rotation Trick, ICLR 2025, section 4.2.
    """
    start, end = vectors.detach(), codes.detach()
    middle = F.normalize(start + end, dim=-1)
    turned = vectors - 2 * _along(vectors, middle) * middle + 2 * _along(vectors, start) * end
    return straight_through(turned, end)


def _along(vectors: Tensor, direction: Tensor) -> Tensor:
    return (vectors * direction).sum(-1, keepdim=True)
