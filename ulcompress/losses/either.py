"""One of two perceptual distances at a time, so that images please neither network alone."""

import torch
from torch import Tensor

from ulcompress.losses.base import PerceptualDistance
from ulcompress.part import loadable


@loadable()
class EitherDistance(PerceptualDistance):
    """Draws one of two distances for every training step, and takes the mean of both where there is no gradient.

    A decoder that is trained on one network's features learns also what only that network sees. Drawing one of two
    costs no more time than one alone. Put another `EitherDistance` in the place of one for three, of which the other
    counts half.
    """

    def __init__(self, *, first: PerceptualDistance, second: PerceptualDistance):
        """Take the two distances; as they are drawn without weights, their values should be of one size."""
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
