"""The affine map that brings what is diffused to zero mean and unit variance."""

from collections.abc import Iterable
from typing import final

import torch
from einops import rearrange
from torch import Tensor

from ulcompress.functional import distributed
from ulcompress.part import Part, loadable

COVARIANCES = ("full", "channel")
LEAST = 1e-6
"""Least variance of a direction as a share of the largest, so that one without any variation is not blown up."""


@loadable(plain=["covariance"])
@final
class Whitening(Part):
    """Maps values to zero mean and unit variance, so that the noise of a schedule has their size in all channels.

    The map is learnt from data before the first step of a training, saved with the weights, and never changes again;
    until then it is the identity. It is the symmetric one, which stays nearest to the values themselves: Kessy et al.,
    Optimal Whitening and Decorrelation, The American Statistician 72, 2018, section 3.1 (ZCA).
    """

    def __init__(self, *, channels: int, covariance: str = "full"):
        """Begin with the identity.

        Args:
            channels: Channels of the values.
            covariance: `full` also removes the correlation of channels, such as that of red, green and blue; `channel`
                scales each channel by itself, as suits latents.

        Raises:
            ValueError: The covariance has another name.
        """
        super().__init__()
        if covariance not in COVARIANCES:
            raise ValueError(f"covariance must be one of {', '.join(COVARIANCES)}, got {covariance!r}")
        self.channels = channels
        self.covariance = covariance
        self.mean: Tensor
        self.matrix: Tensor
        self.inverse: Tensor
        self.prepared: Tensor
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("matrix", torch.eye(channels))
        self.register_buffer("inverse", torch.eye(channels))
        self.register_buffer("prepared", torch.tensor(False))

    def forward(self, values: Tensor) -> Tensor:
        """Map values, (B, C, h, w), to white ones, float32."""
        return _mapped(values - self.mean[:, None, None], self.matrix)

    def colour(self, white: Tensor) -> Tensor:
        """Map white values, (B, C, h, w), back, float32."""
        return _mapped(white, self.inverse) + self.mean[:, None, None]

    @torch.no_grad()
    def prepare(self, batches: Iterable[Tensor]) -> None:
        """Learn the map from batches of values, (B, C, h, w), of all processes of a training.

        Raises:
            ValueError: There are no values, or none that differ.
        """
        moments = distributed.summed(_moments(batches, self.mean))
        mean = moments[0, 1:] / moments[0, 0]
        covariance = moments[1:, 1:] / moments[0, 0] - mean.outer(mean)
        if self.covariance == "channel":
            covariance = covariance.diagonal().diag()
        if not covariance.diagonal().max() > 0:
            raise ValueError(
                "the whitening is learnt from data and was shown no values that differ; set `preparation.batches`, "
                "to 100 for instance"
            )
        variances, directions = torch.linalg.eigh(covariance)
        deviations = variances.clamp_min(LEAST * variances.max()).sqrt()
        self.mean.copy_(mean)
        self.matrix.copy_(directions / deviations @ directions.T)
        self.inverse.copy_(directions * deviations @ directions.T)
        self.prepared.fill_(True)


def _mapped(values: Tensor, matrix: Tensor) -> Tensor:
    with torch.autocast(values.device.type, enabled=False):
        return torch.einsum("ij,bjhw->bihw", matrix, values.float())


def _moments(batches: Iterable[Tensor], like: Tensor) -> Tensor:
    """Return count, sums and products, (C + 1, C + 1) float64: the products of all values with a 1 before them."""
    moments = torch.zeros(len(like) + 1, len(like) + 1, dtype=torch.float64, device=like.device)
    for values in batches:
        flat = rearrange(values.to(moments), "b c h w -> c (b h w)")
        extended = torch.cat([torch.ones_like(flat[:1]), flat])
        moments += extended @ extended.T
    return moments
