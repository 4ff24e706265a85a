"""A linear estimate of the latent from the features."""

from collections.abc import Iterable

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ulcompress.diffusion.estimate import Estimate
from ulcompress.encoders.cosine import CosineEncoder
from ulcompress.functional import distributed
from ulcompress.functional.cosine_transform import block_basis, cosine_basis
from ulcompress.functional.least_squares import coefficients
from ulcompress.part import loadable
from ulcompress.records import Condition

ENCODERS = ("CosineEncoder", "BlockEncoder")


@loadable(plain=["inverse_of"])
class LinearEstimate(Estimate):
    """Maps features to the latent on its finer grid, each position by itself.

    It is initialised as the inverse of what an encoder is before training: the map from the coefficients of
    `CosineEncoder` to those of `CosineAutoencoder`, which the blocks of the former determine, or from those of
    `BlockEncoder` to any latent. For other features and latents it is fitted by least squares to what is shown before
    the first step of a training.
    """

    requires = frozenset({"spatial"})

    def __init__(
        self,
        *,
        spatial_channels: int = 64,
        spatial_stride: int = 16,
        channels: int = 16,
        stride: int = 8,
        inverse_of: str | None = "CosineEncoder",
    ):
        """Compute the map.

        Args:
            spatial_channels: Channels of the features.
            spatial_stride: Pixels per feature position, along each side.
            channels: Channels of the latent.
            stride: Pixels per latent position, along each side; a divisor of `spatial_stride`.
            inverse_of: Encoder that gives the features, `CosineEncoder` or `BlockEncoder`; None fits the map to data.

        Raises:
            ValueError: `stride` is no divisor, the blocks have another number of coefficients, or there is no such
                encoder.
        """
        super().__init__()
        if spatial_stride % stride:
            raise ValueError(f"the stride {stride} of the latent must divide that of the features, {spatial_stride}")
        self.condition_channels = {"spatial": spatial_channels}
        self.feature_stride = spatial_stride
        self.channels = channels
        self.target_stride = stride
        self.scale = spatial_stride // stride
        self.map = nn.Conv2d(spatial_channels, channels * self.scale**2, 1)
        nn.init.zeros_(self.map.weight)
        nn.init.zeros_(self.map.bias)  # pyright: ignore[reportArgumentType]
        self.fitted: Tensor | None
        self.register_buffer("fitted", torch.tensor(False) if inverse_of is None else None)
        if inverse_of is not None:
            with torch.no_grad():
                self.map.weight.copy_(self._latents(inverse_of, stride).flatten(1).T[..., None, None])

    @property
    def prepared(self) -> bool:
        """Whether the map is one, as it is at once where it is an encoder's inverse."""
        return self.fitted is None or bool(self.fitted)

    @torch.no_grad()
    def prepare(self, batches: Iterable[tuple[Tensor, Condition]]) -> None:
        """Fit the map by least squares to targets, (B, C, h, w), and their conditions.

        Raises:
            ValueError: There are no batches.
        """
        assert self.fitted is not None and self.map.bias is not None
        count = self.map.in_channels + 1
        products = torch.zeros(count, count + self.map.out_channels, dtype=torch.float64, device=self.fitted.device)
        for target, condition in batches:
            assert condition.spatial is not None
            features = rearrange(condition.spatial, "b c h w -> (b h w) c").double()
            known = torch.cat([features, torch.ones_like(features[:, :1])], 1)
            wanted = rearrange(F.pixel_unshuffle(target.double(), self.scale), "b c h w -> (b h w) c")
            products += known.T @ torch.cat([known, wanted], 1)
        squares, mixed = distributed.summed(products).split([count, self.map.out_channels], 1)
        if not squares[-1, -1] > 0:
            raise ValueError("the linear estimate is learnt from data; set `preparation.batches`, to 100 for instance")
        solution = coefficients(squares, mixed)
        self.map.weight.copy_(solution[:-1].T[..., None, None])
        self.map.bias.copy_(solution[-1])
        self.fitted.fill_(True)

    def _latents(self, inverse_of: str, stride: int) -> Tensor:
        """Return the latent of each coefficient, (spatial, C, scale, scale)."""
        features = self.map.in_channels
        if inverse_of == "CosineEncoder":
            blocks = cosine_basis(self.scale * stride, features)[0] * CosineEncoder.UNIT
            functions, deviations = cosine_basis(stride, self.channels)
            return F.conv2d(blocks, functions, stride=stride) / deviations[:, None, None]
        if inverse_of != "BlockEncoder":
            raise ValueError(f"inverse_of must be one of {', '.join(ENCODERS)}, got {inverse_of!r}")
        if features != self.channels * self.scale**2:
            raise ValueError(
                f"a block of {self.scale} x {self.scale} latents of {self.channels} channels has "
                f"{self.channels * self.scale**2} coefficients, got {features} channels of the features"
            )
        return block_basis(self.scale, self.channels)

    def forward(self, condition: Condition) -> Tensor:
        """Map the features `spatial`, (B, C, h, w), to latents, (B, C', h * scale, w * scale)."""
        assert condition.spatial is not None
        with torch.autocast(condition.spatial.device.type, enabled=False):
            return F.pixel_shuffle(self.map(condition.spatial.float()), self.scale)
