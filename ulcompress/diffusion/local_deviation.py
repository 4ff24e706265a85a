"""How much is missing at each position, as the estimate tells."""

from collections.abc import Iterable, Sequence
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from ulcompress.functional import distributed
from ulcompress.functional.least_squares import coefficients
from ulcompress.part import Part, loadable

LEAST = 1e-4
"""Variance that is added to all others, so that a flat place has a finite logarithm."""


@loadable(plain=["windows"])
@final
class LocalDeviation(Part):
    """Predicts the deviation of what is missing at each position from how the estimate varies around it.

        estimate ─► variance in windows of several sizes ─► logarithms ─► linear ─► exponential ─► deviation

    A sky has little that an estimate could miss, foliage much. Where what is missing is divided by this deviation, the
    noise of a schedule has its size everywhere, and none is left over in flat places. The linear map is learnt from
    data before the first step of a training, by least squares of logarithms, saved with the weights, and never changes
    again; until then the deviation is 1. Its proportions from place to place count: the whitening sets the scale.
    """

    def __init__(self, *, windows: Sequence[int] = (3, 7, 15)):
        """Begin with a deviation of 1.

        Args:
            windows: Sides of the windows, odd numbers of positions.

        Raises:
            ValueError: There is no window, or one has an even side.
        """
        super().__init__()
        if not windows or any(side < 3 or side % 2 == 0 for side in windows):
            raise ValueError(f"windows have odd sides of at least 3 positions, got {list(windows)}")
        self.windows = list(windows)
        self.weights: Tensor
        self.range: Tensor
        self.prepared: Tensor
        self.register_buffer("weights", torch.zeros(len(self.windows) + 1))
        self.register_buffer("range", torch.zeros(2))
        self.register_buffer("prepared", torch.tensor(False))

    @torch.no_grad()
    def forward(self, estimate: Tensor) -> Tensor:
        """Return the deviation at each position of estimates, (B, C, h, w), float32 (B, 1, h, w)."""
        logarithm = torch.einsum("k,bkhw->bhw", self.weights, self._inputs(estimate))[:, None]
        return logarithm.clamp(self.range[0], self.range[1]).div(2).exp()

    @torch.no_grad()
    def prepare(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Learn the map from what is missing and the estimates, (B, C, h, w) each, of all processes of a training.

        Raises:
            ValueError: There are no pairs.
        """
        size = len(self.weights)
        products = torch.zeros(size + 1, size, dtype=torch.float64, device=self.weights.device)
        for missing, estimate in pairs:
            inputs = self._inputs(estimate).double()
            energy = _logarithm(_around(missing.float().square().mean(1, True), self.windows[0])).double()
            flat = inputs.movedim(1, -1).flatten(0, 2)
            products += torch.cat([flat.T, energy.flatten()[None]]) @ flat
        products = distributed.summed(products)
        if not products[0, 0] > 0:
            raise ValueError("the local deviation is learnt from data; set `preparation.batches`, to 100 for instance")
        self.weights.copy_(coefficients(products[:-1], products[-1]))
        self.prepared.fill_(True)
        mean = products[0] / products[0, 0] @ self.weights.double()
        square = products[:-1] / products[0, 0] @ self.weights.double() @ self.weights.double()
        spread = (square - mean.square()).clamp_min(0).sqrt()  # rounding may leave it below 0
        self.range.copy_(torch.stack([mean - 3 * spread, mean + 3 * spread]))

    def _inputs(self, estimate: Tensor) -> Tensor:
        """Return a one and the logarithms of the variances in all windows, (B, 1 + windows, h, w)."""
        with torch.autocast(estimate.device.type, enabled=False):
            values = estimate.float()
            variances = [_variance(values, side) for side in self.windows]
            return torch.cat([torch.ones_like(variances[0]), *map(_logarithm, variances)], 1)


def _around(values: Tensor, side: int) -> Tensor:
    """Return the means in windows around all positions; beyond the border there is nothing."""
    for kernel in ((side, 1), (1, side)):  # one after the other they take 2 side additions in place of side^2
        padding = tuple(length // 2 for length in kernel)
        values = F.avg_pool2d(values, kernel, stride=1, padding=padding, count_include_pad=False)
    return values


def _variance(values: Tensor, side: int) -> Tensor:
    """Return the variance around each position, the mean of all channels, (B, 1, h, w)."""
    return _around(values.square().mean(1, True), side) - _around(values, side).square().mean(1, True)


def _logarithm(variances: Tensor) -> Tensor:
    return variances.clamp_min(0).add(LEAST).log()
