"""The tiny autoencoder, distilled from Stable Diffusion's."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from torch import Tensor
from torch.nn import functional as F

from ulcompress.autoencoders.base import Autoencoder
from ulcompress.diffusion import BoundaryControl
from ulcompress.foundation.network import PretrainedNetwork, architecture_of, build, built_again
from ulcompress.part import loadable

TILE, OVERLAP = 128, 16
"""Latent positions: a larger image is coded in overlapping tiles, so that memory stays bounded."""


@loadable(sources=["pretrained"], plain=["architecture"])
class TinyAutoencoder(Autoencoder):
    """An autoencoder of plain convolutions, without normalisation and without attention.

    TAESD (github.com/madebyollin/taesd) maps to the latents of Stable Diffusion 1 and 2, of about unit variance as they
    are, in a sixtieth of the parameters of that model's autoencoder.
    """

    def __init__(
        self,
        *,
        channels: int = 4,
        width: int = 64,
        blocks: Sequence[int] = (1, 3, 3, 3),
        pretrained: PretrainedNetwork | None = None,
        architecture: dict[str, Any] | None = None,
    ):
        """Build TAESD's network with random weights, or take a pretrained one, whose sizes replace those below.

        Args:
            channels: Channels of the latent.
            width: Channels of all convolutions.
            blocks: Residual blocks of the levels, finest first; every level but the first halves the resolution.
            pretrained: Take this network, in diffusers' layout of an `AutoencoderTiny`, instead of the sizes above.
            architecture: Build diffusers' AutoencoderTiny of this configuration instead; how a saved codec states what
                it once took from `pretrained`, so that it needs that network no more.

        Raises:
            ValueError: `pretrained` and `architecture` are both set, or the pretrained weights cannot be found.
        """
        super().__init__()
        if pretrained is not None and architecture is not None:
            raise ValueError("got both `pretrained` and `architecture`; give one of them")
        self._is_foreign = pretrained is not None or architecture is not None
        if pretrained is not None:
            self.network = pretrained.network(AutoencoderTiny)
        else:
            self.network = build(AutoencoderTiny, architecture or _sizes(channels, width, blocks))
        options: Any = self.network.config
        self.channels = options.latent_channels
        self.stride = 2 ** (len(options.encoder_block_out_channels) - 1)
        self._scale = options.scaling_factor
        self._tiles = BoundaryControl(patch=TILE, overlap=OVERLAP)

    def arguments(self) -> dict[str, Any]:
        """Return the constructor arguments; a pretrained network by its architecture."""
        return built_again(architecture_of(self.network)) if self._is_foreign else super().arguments()

    def encode(self, image: Tensor) -> Tensor:
        """Map RGB in [0, 1], (B, 3, H, W), to the latent, (B, C, H/stride, W/stride)."""
        rows, columns = (side // self.stride for side in image.shape[-2:])
        return self._tiles.merge(lambda *place: self._encoded(image[self._pixels(*place)]), rows, columns)

    def decode(self, latent: Tensor) -> Tensor:
        """Map a latent, (B, C, h, w), to RGB, (B, 3, h*stride, w*stride), not clamped."""
        merged = self._tiles.merge(lambda rows, columns: self._decoded(latent[..., rows, columns]), *latent.shape[-2:])
        return F.pixel_shuffle(merged, self.stride)

    def _pixels(self, rows: slice, columns: slice) -> tuple[Any, ...]:
        """Return the index of the pixels of a range of positions."""
        spans = (slice(span.start * self.stride, span.stop * self.stride) for span in (rows, columns))
        return (..., *spans)

    def _encoded(self, image: Tensor) -> Tensor:
        pixels = (2 * image - 1).to(self.network.dtype, memory_format=torch.channels_last)
        return self._scale * self.network.encode(pixels, return_dict=False)[0].float()

    def _decoded(self, latent: Tensor) -> Tensor:
        """Return the pixels of each position as channels, (B, 3 * stride^2, h, w)."""
        raw = (latent / self._scale).to(self.network.dtype, memory_format=torch.channels_last)
        pixels: Any = self.network.decode(raw, return_dict=False)[0]  # pyright: ignore[reportArgumentType]
        return F.pixel_unshuffle(pixels.float() / 2 + 0.5, self.stride)


def _sizes(channels: int, width: int, blocks: Sequence[int]) -> dict[str, Any]:
    widths = (width,) * len(blocks)
    return {
        "latent_channels": channels,
        "encoder_block_out_channels": widths,
        "decoder_block_out_channels": widths,
        "num_encoder_blocks": tuple(blocks),
        "num_decoder_blocks": tuple(reversed(blocks)),
    }
