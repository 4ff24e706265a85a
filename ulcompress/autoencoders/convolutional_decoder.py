"""The convolutional network that restores pixels from a latent."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 8


class ConvolutionalDecoder(nn.Module):
    """The decoder of latent diffusion without its attention: residual blocks on levels that double the resolution.

        latent ─► 3x3 ─► blocks ─► [blocks ─► nearest, 3x3] ... ─► blocks ─► norm ─► SiLU ─► 3x3 ─► pixels

    The network of Rombach et al., CVPR 2022, with the names and the results of diffusers' `Decoder`. It is our own
    because importing anything from diffusers takes more than a second, also to compress, where nothing is decoded.
    """

    def __init__(self, *, in_channels: int, out_channels: int, widths: Sequence[int], layers: int):
        """Build the network with random weights.

        Args:
            in_channels: Of the latent.
            out_channels: Of the result.
            widths: Channels of each level, finest first, multiples of 8.
            layers: Residual blocks a level, less one.
        """
        super().__init__()
        levels = [widths[-1], *reversed(widths)]
        self.conv_in = nn.Conv2d(in_channels, levels[0], 3, padding=1)
        self.mid_block = _Level(levels[0], levels[0], blocks=2, doubles=False)
        self.up_blocks = nn.Sequential(
            *(
                _Level(before, width, blocks=layers + 1, doubles=level < len(widths) - 1)
                for level, (before, width) in enumerate(pairwise(levels))
            )
        )
        self.conv_norm_out = _norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], out_channels, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C', h * s, w * s), where s doubles with each level but the last."""
        return self.conv_out(F.silu(self.conv_norm_out(self.up_blocks(self.mid_block(self.conv_in(latent))))))


class _Level(nn.Module):
    """Residual blocks, and where wanted twice the resolution."""

    def __init__(self, before: int, width: int, *, blocks: int, doubles: bool):
        super().__init__()
        self.resnets = nn.Sequential(*(_Residual(width if block else before, width) for block in range(blocks)))
        self.upsamplers = nn.Sequential(*[_Doubled(width)] * doubles)

    def forward(self, x: Tensor) -> Tensor:
        return self.upsamplers(self.resnets(x))


class _Residual(nn.Module):
    """Two normalised convolutions beside a shortcut."""

    def __init__(self, before: int, width: int):
        super().__init__()
        self.norm1 = _norm(before)
        self.conv1 = nn.Conv2d(before, width, 3, padding=1)
        self.norm2 = _norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(before, width, 1) if before != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        return self.conv_shortcut(x) + self.conv2(F.silu(self.norm2(hidden)))


class _Doubled(nn.Module):
    """Twice the resolution by repetition and a convolution."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)
