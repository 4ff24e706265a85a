"""CoD-Lite: a codebook of few entries at a coarse grid, and a network that restores pixels from it in one pass."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from ulcompress.functional.padding import pad_to_multiple
from ulcompress.learned.catalogue import PUBLISHED
from ulcompress.learned.compressai import Hyperprior, HyperpriorModel
from ulcompress.learned.state import fill, read_state
from ulcompress.part import loadable

PATCH = 16
"""Side in pixels of the square that a position of the decoder restores."""
STRIDES = (4, 8, 16, 32)
WINDOW = 32
"""Side in positions of the windows of attention in larger maps."""
GROUPS = 32
EPSILON = 1e-6
TIME = 128
"""Frequencies of the embedding of the time, and channels of the embedding of the noisy image, both of which are 0."""
FREQUENCIES = 8
"""Frequencies along each side of the positions of a patch's pixels."""
ENCODER, CODEBOOK = "net.y_embedder.encoder.", "net.y_embedder.bottleneck.embedding.weight"
UNUSED = ("real_denoiser.", "fake_denoiser.", "disc.", "net.s_embedder.proj1.")
"""Weights that only a training uses, and those of the noisy image, which is 0 in a codec."""


@loadable(sources=["bpp", "weights"], plain=["origin"])
class CodLite(HyperpriorModel):
    """The networks of CoD-Lite, with their published weights, or small and untrained.

        image ─► convolutions, attention ─► features ─► nearest entry ─► features
        features ─► convolutions, attention ─► map at stride 16 ─► gated blocks ─► a network at each pixel ─► image

    The published decoder is a diffusion that was distilled to one step from a noise of zero, so it is a function of the
    features. In place of a hyperprior there is a codebook: a `ResidualQuantizer` of one stage without unit length.
    Source: arXiv 2604.12525.
    """

    def __init__(
        self,
        *,
        bpp: float | None = None,
        weights: str | None = None,
        stride: int = 16,
        channels: int = 128,
        widths: Sequence[int] = (128, 256, 512),
        hidden: int = 384,
        pixel_width: int = 32,
        blocks: int = 21,
        origin: str | None = None,
    ):
        """Choose the model; nothing is loaded yet.

        Args:
            bpp: Rate of the published weights: 0.0039, 0.0078, 0.0156, 0.0312, 0.125 or 0.5 bits per pixel, at
                the strides 32, 32, 16, 16, 8 and 4. None for random weights.
            weights: File of those weights, fetched by hand; None downloads it.
            stride: Pixels a position of the features: 4, 8, 16 or 32.
            channels: Channels of the features.
            widths: Channels of the encoder: at its finest levels, at the coarser ones, and at the last.
            hidden: Channels of the decoder at stride 16.
            pixel_width: Channels of the network of pixels.
            blocks: Gated blocks of the decoder.
            origin: A note on the origin of the weights, saved with a codec.

        Raises:
            ValueError: There is no such rate, stride or file, or not three widths.
        """
        super().__init__()
        published = {codec.bpp: codec for codec in PUBLISHED.values() if codec.system == "CoD-Lite"}
        if bpp is not None and bpp not in published:
            raise ValueError(f"CoD-Lite has the rates {', '.join(map(str, published))}, got {bpp}")
        if bpp is None and weights is not None:
            raise ValueError(f"weights {weights!r} need the rate `bpp` that they belong to")
        if stride not in STRIDES:
            raise ValueError(f"stride must be one of {', '.join(map(str, STRIDES))}, got {stride}")
        if len(widths) != 3:
            raise ValueError(f"widths must be three, got {list(widths)}")
        self.published = None if bpp is None else published[bpp]
        self.weights = weights
        self.stride = stride
        self.channels = channels
        self.widths = list(widths)
        self.hidden = hidden
        self.pixel_width = pixel_width
        self.blocks = blocks
        self.origin = origin or (self.published and f"{self.published.name} ({self.published.licence})")

    def arguments(self) -> dict[str, Any]:
        """Return sizes and origin, from which a saved codec builds the networks before its weights are loaded."""
        return super().arguments() | {"bpp": None, "weights": None, "origin": self.origin}

    def analysis(self) -> nn.Module:
        """Return the encoder."""
        encoder = _Encoder(self.stride, self.channels, self.widths)
        if self.published is not None:
            state = {key: value for key, value in self._state().items() if key.startswith(ENCODER)}
            fill(encoder, state, name=lambda key: ENCODER + key, source=str(self._file()))
        return encoder

    def synthesis(self) -> nn.Module:
        """Return the decoder."""
        decoder = _Decoder(self.stride, self.channels, self.hidden, self.pixel_width, self.blocks)
        if self.published is not None:
            state = self._state()
            state = {key: value for key, value in state.items() if key != CODEBOOK and not key.startswith(ENCODER)}
            fill(decoder, state, name=lambda key: f"net.{key}", source=str(self._file()))
        return decoder

    def hyperprior(self) -> Hyperprior:
        """Raise ValueError: there is none."""
        raise ValueError("CoD-Lite has a codebook in place of a hyperprior; use ResidualQuantizer")

    def codebook(self) -> Tensor:
        """Return the published entries, (size, channels); ValueError where there are none."""
        state = self._state() if self.published is not None else {}
        if CODEBOOK not in state:
            raise ValueError(f"{self._file() if state else 'a model with random weights'} has no codebook {CODEBOOK}")
        return state[CODEBOOK]

    def _file(self) -> Path:
        assert self.published is not None
        return Path(self.weights) if self.weights is not None else self.published.files[0].fetched()

    def _state(self) -> dict[str, Tensor]:
        return {key: value for key, value in read_state(str(self._file())).items() if not key.startswith(UNUSED)}


# All layers below have the names of the published weights.


class _Residual(nn.Module):
    """Two convolutions behind group normalisation and Swish, added to the input, (B, C, h, w)."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.norm1, self.conv1 = _norm(channels_in), _convolution(channels_in, channels_out)
        self.norm2, self.conv2 = _norm(channels_out), _convolution(channels_out, channels_out)
        self.nin_shortcut = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv1(F.silu(self.norm1(x)))
        return self.nin_shortcut(x) + self.conv2(F.silu(self.norm2(inner)))


class _Attention(nn.Module):
    """Self-attention of one head, in windows where a side of the map has more than `WINDOW` positions."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = _norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        q, k, v = self.q(normed), self.k(normed), self.v(normed)
        height, width = x.shape[-2:]
        rows, columns = (height, width) if max(height, width) <= WINDOW else (WINDOW, WINDOW)
        border = (0, -width % columns, 0, -height % rows)
        q, k, v = (F.pad(map_, border, mode="replicate") for map_ in (q, k, v))
        grid = {"r": q.shape[-2] // rows, "s": q.shape[-1] // columns}
        q, k, v = (rearrange(map_, "b c (r i) (s j) -> (b r s) (i j) c", **grid) for map_ in (q, k, v))
        attended = F.scaled_dot_product_attention(q, k, v)
        merged = rearrange(attended, "(b r s) (i j) c -> b c (r i) (s j)", i=rows, **grid)
        return x + self.proj_out(merged[..., :height, :width])


class _Halving(nn.Module):
    """A convolution of stride 2, with zeros beyond the right and the lower border alone."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class _Encoder(nn.Module):
    """RGB in [0, 1], (B, 3, H, W), to features, (B, channels, H / stride, W / stride)."""

    def __init__(self, stride: int, channels: int, widths: Sequence[int]):
        super().__init__()
        first, second, last = widths

        def level(channels_in: int, channels_out: int, *, halve: bool) -> nn.Module:
            residual = _Residual(channels_in, channels_out), _Residual(channels_out, channels_out)
            return nn.Sequential(*residual, *([_Halving(channels_out)] if halve else []))

        self.conv_in = nn.Conv2d(3, first, 3, stride=2, padding=1)
        self.down_block_0 = level(first, first, halve=True)
        self.down_block_1 = level(first, first, halve=stride >= 8)
        self.down_block_2 = level(first, second, halve=stride >= 16)
        self.down_block_3 = level(second, second, halve=stride >= 32)
        self.down_block_4 = nn.Sequential(
            _Residual(second, last), _Attention(last), _Residual(last, last), _Attention(last)
        )
        self.mid_block = nn.Sequential(_Residual(last, last), _Attention(last), _Residual(last, last))
        self.norm_out = _norm(last)
        self.conv_out = _convolution(last, channels)

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv_in(image)
        for level in (self.down_block_0, self.down_block_1, self.down_block_2, self.down_block_3, self.down_block_4):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid_block(x))))


class _Condition(nn.Module):
    """Features at `stride` to a map at stride 16, (B, hidden, H / 16, W / 16)."""

    def __init__(self, stride: int, channels: int, hidden: int):
        super().__init__()
        self.conv_in = _convolution(channels, hidden)
        residual, attention = (lambda: _Residual(hidden, hidden)), (lambda: _Attention(hidden))
        self.block = nn.Sequential(residual(), attention(), residual(), attention(), residual())
        self.norm_out = _norm(hidden)
        halve = nn.Conv2d(hidden, hidden, 3, stride=2, padding=1)
        if stride == 4:
            self.conv_out = nn.Sequential(halve, residual(), nn.Conv2d(hidden, hidden, 3, stride=2, padding=1))
        else:
            self.conv_out = halve if stride == 8 else _convolution(hidden, hidden)
        self.ada = nn.ModuleDict({"block": residual()}) if stride == 32 else None

    def forward(self, features: Tensor) -> Tensor:
        x = self.conv_out(F.silu(self.norm_out(self.block(self.conv_in(features)))))
        return x if self.ada is None else self.ada["block"](F.interpolate(x, scale_factor=2, mode="nearest"))


class _Block(nn.Module):
    """A depthwise convolution under gates of channels, and a network of two layers, both modulated by a vector."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.conv3 = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.conv4, self.conv5 = nn.Conv2d(channels, 4 * channels, 1), nn.Conv2d(4 * channels, channels, 1)
        self.ca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1), nn.Sigmoid())
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(channels, 6 * channels))

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        parts = self.adaLN_modulation(vector)[..., None, None].chunk(6, 1)
        inner = F.gelu(self.conv2(self.conv1(_modulated(x, parts[0], parts[1]))))
        x = x + parts[2] * self.conv3(inner * self.ca(inner))
        return x + parts[5] * self.conv5(F.gelu(self.conv4(_modulated(x, parts[3], parts[4]))))


class _PixelBlock(nn.Module):
    """A network of two layers at each pixel, (N, pixels, C), modulated by another map."""

    def __init__(self, channels: int):
        super().__init__()
        self.in_ln = nn.LayerNorm(channels, eps=EPSILON)
        self.mlp = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, channels))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(channels, 3 * channels))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale, gate = self.adaLN_modulation(condition).chunk(3, -1)
        return x + gate * self.mlp(self.in_ln(x) * (1 + scale) + shift)


class _Decoder(nn.Module):
    """Features at `stride` to RGB, (B, 3, H, W), not clamped."""

    def __init__(self, stride: int, channels: int, hidden: int, pixel_width: int, blocks: int):
        super().__init__()
        self.stride, self.pixel_width = stride, pixel_width
        pixels = PATCH**2
        self.y_embedder = nn.ModuleDict({"decoder": _Condition(stride, channels, hidden)})
        mlp = nn.Sequential(nn.Linear(2 * TIME, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.t_embedder = nn.ModuleDict({"mlp": mlp})
        self.s_embedder = nn.ModuleDict({"proj2": nn.Conv2d(TIME + hidden, hidden, 1)})
        self.blocks = nn.ModuleList(_Block(hidden) for _ in range(blocks))
        self.y_embedder_x = nn.Conv2d(hidden, pixels * pixel_width, 1)
        embedded = 3 + pixel_width + FREQUENCIES**2
        self.x_embedder = nn.ModuleDict({"embedder": nn.Sequential(nn.Linear(embedded, pixel_width))})
        self.dec_net = nn.ModuleDict(
            {
                "cond_embed": nn.Linear(hidden, pixels * pixel_width),
                "input_proj": nn.Linear(pixel_width, pixel_width),
                "res_blocks": nn.ModuleList(_PixelBlock(pixel_width) for _ in range(3)),
            }
        )
        norm = nn.RMSNorm(pixel_width, eps=EPSILON)
        self.final_layer = nn.ModuleDict({"norm": norm, "linear": nn.Linear(pixel_width, 3)})

    def forward(self, features: Tensor) -> Tensor:
        height, width = (side * self.stride for side in features.shape[-2:])
        condition = self.y_embedder["decoder"](pad_to_multiple(features, max(1, PATCH // self.stride)))
        nothing = condition.new_zeros(len(condition), TIME, *condition.shape[-2:])
        time = torch.cat([condition.new_ones(1, TIME), condition.new_zeros(1, TIME)], 1)  # cosines and sines of 0
        vector, x = self.t_embedder["mlp"](time), self.s_embedder["proj2"](torch.cat([nothing, condition], 1))
        for block in self.blocks:
            x = block(x, vector)
        pixels = self._pixels(condition, x)
        grid = {"h": condition.shape[-2], "w": condition.shape[-1], "p": PATCH}
        image = rearrange(pixels, "(b h w) (p q) c -> b c (h p) (w q)", **grid)
        return image[..., :height, :width] / 2 + 0.5

    def _pixels(self, condition: Tensor, x: Tensor) -> Tensor:
        """Return RGB in [-1, 1] for each pixel of each patch, (B h w, pixels, 3)."""
        own = rearrange(self.y_embedder_x(condition), "b (c p) h w -> (b h w) p c", c=self.pixel_width)
        places = repeat(_positions(x), "p c -> n p c", n=len(own))
        pixels = self.x_embedder["embedder"](torch.cat([torch.zeros_like(places[..., :3]), own, places], -1))
        pixels = self.dec_net["input_proj"](pixels)
        embedded = self.dec_net["cond_embed"](rearrange(x, "b c h w -> (b h w) c"))
        embedded = rearrange(embedded, "n (p c) -> n p c", c=self.pixel_width)
        for block in self.dec_net["res_blocks"]:  # pyright: ignore[reportGeneralTypeIssues]
            pixels = block(pixels, embedded)
        return self.final_layer["linear"](self.final_layer["norm"](pixels))


def _positions(like: Tensor) -> Tensor:
    """Return products of cosines along both sides for the pixels of a patch, row by row, (pixels, frequencies^2)."""
    place = torch.linspace(0, 1, PATCH, device=like.device, dtype=like.dtype)
    frequency = torch.linspace(0, FREQUENCIES, FREQUENCIES, device=like.device, dtype=like.dtype)
    waves = (math.pi * place[:, None] * frequency).cos()
    damping = 1 + frequency[:, None] * frequency
    return rearrange(waves[None, :, :, None] * waves[:, None, None, :] / damping, "y x f g -> (y x) (f g)")


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Normalise each position over its channels, (B, C, h, w), then scale and shift the channels."""
    normed = F.layer_norm(x.movedim(1, -1), x.shape[1:2], eps=EPSILON).movedim(-1, 1)
    return normed * (1 + scale) + shift


def _norm(channels: int) -> nn.Module:
    return nn.GroupNorm(GROUPS, channels, eps=EPSILON)


def _convolution(channels_in: int, channels_out: int) -> nn.Module:
    return nn.Conv2d(channels_in, channels_out, 3, padding=1)
