"""One of two perceptual distances at a time, so that a decoder cannot fit one network alone."""

import torch
from torch import Tensor

from ulcompress.losses.base import PerceptualDistance
from ulcompress.part import loadable


@loadable()
class EitherDistance(PerceptualDistance):
    """Draws one of two distances for every training step, and takes the mean of both where there is no gradient.

    A decoder that is trained against one network's features also fits the peculiarities of that network. Drawing one
    of two distances takes no more time than one alone. For three distances nest an `EitherDistance` as one of the two;
    the other one then counts half.
    """

    def __init__(self, *, first: PerceptualDistance, second: PerceptualDistance):
        """Take the two distances, which are drawn equally often; their values should be of one magnitude."""
        super().__init__()
        self.first = first
        self.second = second
        self.name = f"{first.name} or {second.name}"
        self.freeze()

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Compare two batches of RGB in [0, 1], (B, 3, H, W); returns (B,), 0 for equal images."""
        if not torch.is_grad_enabled():
            return (self.first(image, reference) + self.second(image, reference)) / 2
        drawn = self.first if torch.rand(()) < 0.5 else self.second
        return drawn(image, reference)
