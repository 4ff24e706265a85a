"""The convolutions of the tiny autoencoder."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class TinyNetwork(nn.Module):
    """Residual blocks of plain convolutions, without normalisation: an encoder and a decoder of latents.

        RGB ─► 3x3 ─► blocks ─► (3x3, stride 2 ─► blocks) for each coarser level ─► 3x3 ─► latent
        latent ─► 3 tanh(x / 3) ─► 3x3 ─► (blocks ─► nearest ─► 3x3) for each coarser level ─► blocks ─► 3x3 ─► RGB

    TAESD's network (github.com/madebyollin/taesd) with the names and the results of diffusers' `AutoencoderTiny`. It is
    our own because importing that takes longer than decoding an image.
    """

    def __init__(self, *, channels: int, width: int, blocks: Sequence[int]):
        """Build the network with random weights.

        Args:
            channels: Channels of the latent.
            width: Channels of all convolutions.
            blocks: Residual blocks of the levels, finest first.
        """
        super().__init__()
        self.encoder = _Layers(_encoder(channels, width, blocks))
        self.decoder = _Layers(_decoder(channels, width, blocks[::-1]))

    def encode(self, image: Tensor) -> Tensor:
        """Map RGB in [0, 1], (B, 3, H, W), to the latent, (B, C, h, w)."""
        return self.encoder(image)

    def decode(self, latent: Tensor) -> Tensor:
        """Map a latent, (B, C, h, w), to RGB in about [0, 1], (B, 3, H, W)."""
        return self.decoder(squash(latent))


class Squash(nn.Module):
    """What the decoder does first with a latent, as a layer."""

    def forward(self, latent: Tensor) -> Tensor:
        """Keep a latent, of any shape, within -3 and 3."""
        return squash(latent)


def squash(latent: Tensor) -> Tensor:
    """Return 3 tanh(x / 3) of a latent, of any shape."""
    return 3 * torch.tanh(latent / 3)


class _Layers(nn.Module):
    def __init__(self, layers: Sequence[nn.Module]):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class _Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Sequential(
            _convolution(width, width), nn.ReLU(), _convolution(width, width), nn.ReLU(), _convolution(width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x) + x)


def _convolution(inputs: int, outputs: int, **options: int | bool) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)  # pyright: ignore[reportArgumentType]


def _encoder(channels: int, width: int, blocks: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for level, count in enumerate(blocks):
        layers.append(_convolution(width, width, stride=2, bias=False) if level else _convolution(3, width))
        layers += [_Block(width) for _ in range(count)]
    return [*layers, _convolution(width, channels)]


def _decoder(channels: int, width: int, blocks: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = [_convolution(channels, width), nn.ReLU()]
    for level, count in enumerate(blocks, 1):
        layers += [_Block(width) for _ in range(count)]
        if level < len(blocks):
            layers += [nn.Upsample(scale_factor=2), _convolution(width, width, bias=False)]
    return [*layers, _convolution(width, 3)]
