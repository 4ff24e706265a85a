"""Generalised divisive normalisation."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ulcompress.functional.lower_bound import LowerBound

SMALLEST_BETA = 1e-6
INITIAL_GAMMA = 0.1
PEDESTAL = 2**-36
"""Added under the root in which parameters are kept, so that its gradient stays finite at 0."""


class DivisiveNormalization(nn.Module):
    """Divides each position by the energy of its channels, x_i / sqrt(beta_i + sum_j gamma_ij x_j^2).

    Source: Ballé et al., Density Modeling of Images Using a Generalized Normalization Transformation, ICLR 2016. Names
    of weights are those of CompressAI's GDN.
    """

    def __init__(self, channels: int, *, inverse: bool = False):
        """Choose the channels, C; the inverse multiplies by the root."""
        super().__init__()
        self.inverse = inverse
        self.beta_reparam = _SquareRoot(SMALLEST_BETA)
        self.beta = nn.Parameter(self.beta_reparam.root(torch.ones(channels)))
        self.gamma_reparam = _SquareRoot(0)
        self.gamma = nn.Parameter(self.gamma_reparam.root(INITIAL_GAMMA * torch.eye(channels)))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x, (B, C, h, w)."""
        gamma = self.gamma_reparam(self.gamma)[:, :, None, None]
        energy = F.conv2d(x**2, gamma, self.beta_reparam(self.beta))
        return x * (energy.sqrt() if self.inverse else energy.rsqrt())


class _SquareRoot(nn.Module):
    """Keeps a parameter as its root, which training moves freely while its square stays above a minimum."""

    pedestal: Tensor

    def __init__(self, minimum: float):
        super().__init__()
        self.register_buffer("pedestal", torch.tensor([PEDESTAL]))
        self.lower_bound = LowerBound((minimum + PEDESTAL) ** 0.5)

    def root(self, value: Tensor) -> Tensor:
        return (value + self.pedestal).clamp_min(PEDESTAL).sqrt()

    def forward(self, root: Tensor) -> Tensor:
        return self.lower_bound(root) ** 2 - self.pedestal
