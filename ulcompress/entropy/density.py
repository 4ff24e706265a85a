"""Densities of values that will be rounded: in training uniform noise takes the place of rounding.

Source: Ballé et al., Variational Image Compression with a Scale Hyperprior, ICLR 2018. Names of weights are those of
CompressAI, so that its files and earlier codecs can be read.
"""

import math
from collections.abc import Iterable
from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ulcompress.functional.lower_bound import LowerBound

TABLES = ("_offset", "_quantized_cdf", "_cdf_length")
"""Buffers of an entropy model of CompressAI: the tables of probabilities of its coder."""
WIDTHS = (1, 3, 3, 3, 3, 1)
"""Values in the layers of the network that computes a cumulative distribution."""
SPREAD = 10.0
"""Distance from a median to the initial outer quantiles, and scale of the initial density."""
TAIL = 1e-9
"""Probability beyond both outer quantiles together."""
SMALLEST_LIKELIHOOD = 1e-9


class Density(nn.Module):
    """Base of densities, from which the likelihoods of values with uniform noise in [-1/2, 1/2] follow."""

    def __init__(self):
        super().__init__()
        self.likelihood_lower_bound = LowerBound(SMALLEST_LIKELIHOOD)
        # They stay empty: probabilities of files are integers elsewhere. Without them fingerprints would change.
        for name in TABLES:
            self.register_buffer(name, torch.tensor([], dtype=torch.int32))


class EntropyBottleneck(Density):
    """A density for each channel, the derivative of a cumulative that a monotonic network computes.

    Source: Ballé et al., ICLR 2018, appendix 6.1.
    """

    def __init__(self, channels: int):
        """Make the networks of N channels, each an S-curve around 0 with a random offset."""
        super().__init__()
        self.channels = channels
        self.matrices, self.biases, self.factors = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        scale = SPREAD ** (1 / (len(WIDTHS) - 1))
        for inputs, outputs in pairwise(WIDTHS):
            slope = math.log(math.expm1(1 / scale / outputs))
            self.matrices.append(nn.Parameter(torch.full((channels, outputs, inputs), slope)))
            self.biases.append(nn.Parameter(torch.empty(channels, outputs, 1).uniform_(-0.5, 0.5)))
        for outputs in WIDTHS[1:-1]:
            self.factors.append(nn.Parameter(torch.zeros(channels, outputs, 1)))
        self.quantiles = nn.Parameter(torch.tensor([-SPREAD, 0, SPREAD]).repeat(channels, 1, 1))
        logit = math.log(2 / TAIL - 1)
        self.target: Tensor
        self.register_buffer("target", torch.tensor([-logit, 0, logit]))

    def forward(self, values: Tensor) -> Tensor:
        """Return the likelihoods of values with noise, both (B, N, h, w)."""
        rows = rearrange(values, "b n h w -> n 1 (b h w)").contiguous()
        likelihoods = self.likelihood_lower_bound(self.likelihood(_noisy(rows)))
        batch, _, height, width = values.shape
        return rearrange(likelihoods, "n 1 (b h w) -> b n h w", b=batch, h=height, w=width).contiguous()

    def likelihood(self, values: Tensor) -> Tensor:
        """Return the probability of the interval of length 1 around each value, both (N, 1, n)."""
        parameters = self.matrices, self.biases, self.factors
        return _logits(values + 0.5, *parameters).sigmoid() - _logits(values - 0.5, *parameters).sigmoid()

    def loss(self) -> Tensor:
        """Return how far the quantiles are from their probabilities, (); its gradient reaches the quantiles alone."""
        density = ([each.detach() for each in part] for part in (self.matrices, self.biases, self.factors))
        return (_logits(self.quantiles, *density) - self.target).abs().sum()


class GaussianConditional(Density):
    """Normal densities whose scales and means are predicted."""

    def __init__(self, *, smallest: float):
        """Choose the smallest scale; those below count as that one."""
        super().__init__()
        self.lower_bound_scale = LowerBound(smallest)
        self.register_buffer("scale_table", torch.tensor([]))
        self.register_buffer("scale_bound", torch.tensor([smallest]))

    def forward(self, values: Tensor, scales: Tensor, means: Tensor) -> Tensor:
        """Return the likelihoods of values with noise; all have one shape."""
        return self.likelihood_lower_bound(self.likelihood(_noisy(values) - means, scales))

    def likelihood(self, differences: Tensor, scales: Tensor) -> Tensor:
        """Return the probability of the interval of length 1 around each difference to the mean."""
        scales = self.lower_bound_scale(scales)
        # From the lower tail on both sides: near one the differences would lose their digits.
        distances = differences.abs()
        return _normal_cumulative((0.5 - distances) / scales) - _normal_cumulative((-0.5 - distances) / scales)


def _noisy(values: Tensor) -> Tensor:
    return values + torch.empty_like(values).uniform_(-0.5, 0.5)


def _logits(values: Tensor, matrices: Iterable[Tensor], biases: Iterable[Tensor], factors: Iterable[Tensor]) -> Tensor:
    """Return the logits of the cumulative distribution at values, both (N, 1, n)."""
    for matrix, bias, factor in zip(matrices, biases, [*factors, None], strict=True):
        values = F.softplus(matrix) @ values + bias
        if factor is not None:
            values = values + factor.tanh() * values.tanh()
    return values


def _normal_cumulative(x: Tensor) -> Tensor:
    return 0.5 * torch.erfc(-(2**-0.5) * x)
