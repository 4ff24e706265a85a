"""The tiny autoencoder, distilled from Stable Diffusion's."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ulcompress.autoencoders.base import Autoencoder
from ulcompress.autoencoders.tiny_network import Squash, TinyNetwork
from ulcompress.diffusion import BoundaryControl
from ulcompress.foundation.network import PretrainedNetwork, architecture_of, build, built_again
from ulcompress.part import loadable

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

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
        if self._is_foreign:
            self.network = _foreign(pretrained, architecture)
            options: Any = self.network.config
            self.channels = options.latent_channels
            self.stride = 2 ** (len(options.encoder_block_out_channels) - 1)
            self._scale = options.scaling_factor
        else:
            self.network = TinyNetwork(channels=channels, width=width, blocks=blocks)
            self.channels = channels
            self.stride = 2 ** (len(blocks) - 1)
            self._scale = 1.0
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

    def stages(self) -> tuple[Sequence[nn.Module], Sequence[nn.Module]]:
        """Return the layers of the encoder, from RGB in [0, 1] on, and of the decoder, from the latent on."""
        network: Any = self.network
        return tuple(network.encoder.layers), (Squash(), *network.decoder.layers)

    def _pixels(self, rows: slice, columns: slice) -> tuple[Any, ...]:
        """Return the index of the pixels of a range of positions."""
        spans = (slice(span.start * self.stride, span.stop * self.stride) for span in (rows, columns))
        return (..., *spans)

    def _encoded(self, image: Tensor) -> Tensor:
        if isinstance(self.network, TinyNetwork):
            return self.network.encode(self._input(image)).float()
        return self._scale * self.network.encode(self._input(2 * image - 1), return_dict=False)[0].float()

    def _decoded(self, latent: Tensor) -> Tensor:
        """Return the pixels of each position as channels, (B, 3 * stride^2, h, w)."""
        raw = self._input(latent / self._scale)
        if isinstance(self.network, TinyNetwork):
            pixels = self.network.decode(raw).float()
        else:
            foreign: Any = self.network.decode(raw, return_dict=False)  # pyright: ignore[reportArgumentType]
            pixels = foreign[0].float() / 2 + 0.5
        return F.pixel_unshuffle(pixels, self.stride)

    def _input(self, x: Tensor) -> Tensor:
        return x.to(next(self.network.parameters()).dtype, memory_format=torch.channels_last)


def _foreign(pretrained: PretrainedNetwork | None, architecture: dict[str, Any] | None) -> "AutoencoderTiny":
    """Return diffusers' network; it is imported here, since that takes seconds."""
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    if pretrained is not None:
        return pretrained.network(AutoencoderTiny)
    return build(AutoencoderTiny, cast(dict[str, Any], architecture))
