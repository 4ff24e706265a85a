"""The small conditional U-Net."""

from collections.abc import Iterable, Sequence
from itertools import chain, pairwise, repeat
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ulcompress.denoisers.time_embedding import TimeEmbedding

GROUPS = 16
MASKED = -10000.0
"""Added to the logits of tokens that do not count; minus infinity would give NaN where none counts."""


class ConvolutionalUNet(nn.Module):
    """The U-Net of latent diffusion without self-attention, and without any attention on its finest level.

        x ─► 3x3 ─► level 0 ─► 3x3, stride 2 ─► level 1 ─► ... level N ─► block
                       │                           │                │        │
        x ◄─ 3x3 ◄─ level 0 ◄── 3x3, nearest ◄─ level 1 ◄─ ... level N ◄────┘

    A level is residual blocks, which take the time, each followed by cross-attention to the text. The network of
    Rombach et al., CVPR 2022, with the names, the initial values and the results of diffusers' `UNet2DConditionModel`
    with `only_cross_attention`. It is our own because importing that takes four seconds, of which decoding an image
    takes one.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        text_channels: int,
        syntax_channels: int | None,
        widths: Sequence[int],
        layers: int,
        head_channels: int,
    ):
        """Build the network with random weights.

        Args:
            in_channels: Of x_t and the maps.
            out_channels: Of the prediction.
            text_channels: Of the text embeddings.
            syntax_channels: Of the syntax; None takes no syntax.
            widths: Channels of each level, finest first, multiples of 16.
            layers: Residual blocks a level; the upward path has one more.
            head_channels: Channels of an attention head.

        Raises:
            ValueError: The widths cannot be used.
        """
        super().__init__()
        if any(width % GROUPS for width in widths) or min(widths[1:], default=head_channels) < head_channels:
            raise ValueError(
                f"widths must be multiples of {GROUPS} (the group norm's groups), and from the second on at least "
                f"head_channels={head_channels}; got {list(widths)}"
            )
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0], 4 * widths[0], syntax_channels=syntax_channels)
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        options: dict[str, Any] = {"time_channels": 4 * widths[0]}
        attention = [{}, *({"text_channels": text_channels, "heads": width // head_channels} for width in widths[1:])]
        skips = [widths[0]]
        for level, (before, width) in enumerate(pairwise([widths[0], *widths])):
            inputs = chain([before], repeat(width, layers - 1))
            last = level == len(widths) - 1
            self.down_blocks.append(_Down(inputs, width, halves=not last, **options, **attention[level]))
            skips += [width] * (layers + (not last))
        self.mid_block = _Level([widths[-1]], widths[-1], **options)
        before = widths[-1]
        for level, width in reversed([*enumerate(widths)]):
            inputs = (channels + skips.pop() for channels in chain([before], repeat(width, layers)))
            self.up_blocks.append(_Up(inputs, width, doubles=level > 0, **options, **attention[level]))
            before = width
        self.conv_norm_out = nn.GroupNorm(GROUPS, widths[0])
        self.conv_out = nn.Conv2d(widths[0], out_channels, 3, padding=1)

    def checkpoint_activations(self) -> None:
        """Compute those within residual blocks and attention a second time."""
        for module in self.modules():
            if isinstance(module, _Level):
                module.checkpointed = True

    def forward(self, x: Tensor, times: Tensor, text: Tensor, mask: Tensor | None, syntax: Tensor | None) -> Tensor:
        """Predict from x_t and the maps.

        Args:
            x: The noisy target and the maps, (B, C, h, w), of any size.
            times: The noise level, (B,).
            text: Token embeddings, (B, L, text_channels).
            mask: True where a token counts, (B, L); None: all count.
            syntax: The syntax, (B, syntax_channels); None counts as zeros.

        Returns:
            The prediction, (B, out_channels, h, w).
        """
        time = F.silu(self.time_embedding(times, syntax))
        bias = None if mask is None else (1 - mask[:, None, None].to(x.dtype)) * MASKED
        context = (time, text, bias)
        x = self.conv_in(x)
        skips = [x]
        for level in self.down_blocks:
            x, states = level(x, *context)
            skips += states
        x, _ = self.mid_block(x, *context)
        for level in self.up_blocks:
            joined = [skips.pop() for _ in level.resnets]  # pyright: ignore[reportArgumentType, reportGeneralTypeIssues]
            x = level(x, joined, skips[-1].shape[-2:] if skips else x.shape[-2:], *context)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class _Level(nn.Module):
    """Residual blocks, each followed by attention to the text where the level has heads."""

    def __init__(
        self,
        inputs: Iterable[int],
        width: int,
        *,
        time_channels: int,
        text_channels: int = 0,
        heads: int = 0,
    ):
        super().__init__()
        self.checkpointed = False
        self.attentions = nn.ModuleList()
        self.resnets = nn.ModuleList()
        for channels in inputs:
            self.resnets.append(_Residual(channels, width, time_channels))
            if heads:
                self.attentions.append(_TextAttention(width, text_channels, heads))

    def forward(self, x: Tensor, time: Tensor, text: Tensor, bias: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        states = []
        for block in range(len(self.resnets)):
            states.append(x := self.block(block, x, time, text, bias))
        return x, states

    def block(self, number: int, *inputs: Any) -> Tensor:
        if self.checkpointed and torch.is_grad_enabled():
            return checkpoint(self._refined, number, *inputs, use_reentrant=False)
        return self._refined(number, *inputs)

    def _refined(self, number: int, x: Tensor, time: Tensor, text: Tensor, bias: Tensor | None) -> Tensor:
        x = self.resnets[number](x, time)
        return self.attentions[number](x, text, bias) if self.attentions else x


class _Down(_Level):
    """A level of the downward path, and where wanted half the resolution."""

    def __init__(self, inputs: Iterable[int], width: int, *, halves: bool, **options: Any):
        super().__init__(inputs, width, **options)
        self.downsamplers = nn.ModuleList([_Halved(width)] if halves else [])

    def forward(self, x: Tensor, time: Tensor, text: Tensor, bias: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        x, states = super().forward(x, time, text, bias)
        for halved in self.downsamplers:
            states.append(x := halved(x))
        return x, states


class _Up(_Level):
    """A level of the upward path, whose blocks join one skip each, and where wanted the resolution of the next."""

    def __init__(self, inputs: Iterable[int], width: int, *, doubles: bool, **options: Any):
        super().__init__(inputs, width, **options)
        self.upsamplers = nn.ModuleList([_Doubled(width)] if doubles else [])

    def forward(
        self, x: Tensor, skips: list[Tensor], size: torch.Size, time: Tensor, text: Tensor, bias: Tensor | None
    ) -> Tensor:
        for block, skip in enumerate(skips):
            x = self.block(block, torch.cat([x, skip], 1), time, text, bias)
        for doubled in self.upsamplers:
            x = doubled(x, size)
        return x


class _Halved(nn.Module):
    """Half the resolution by a convolution."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class _Doubled(nn.Module):
    """A higher resolution by repetition and a convolution."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, size: torch.Size) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest")[..., : size[0], : size[1]])


class _Residual(nn.Module):
    """Two normalised convolutions beside a shortcut; the time is added between them."""

    def __init__(self, before: int, width: int, time_channels: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, before)
        self.conv1 = nn.Conv2d(before, width, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_channels, width)
        self.norm2 = nn.GroupNorm(GROUPS, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(before, width, 1) if before != width else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = hidden + self.time_emb_proj(time)[:, :, None, None]
        return self.conv_shortcut(x) + self.conv2(F.silu(self.norm2(hidden)))


class _TextAttention(nn.Module):
    """A transformer of one block over the positions of a map, which attend to the tokens of the text."""

    def __init__(self, channels: int, text_channels: int, heads: int):
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels, eps=1e-6)
        inner = channels // heads * heads
        self.proj_in = nn.Conv2d(channels, inner, 1)
        self.transformer_blocks = nn.ModuleList([_Block(inner, text_channels, heads)])
        self.proj_out = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor, text: Tensor, bias: Tensor | None) -> Tensor:
        positions = rearrange(self.proj_in(self.norm(x)), "b c h w -> b (h w) c")
        for block in self.transformer_blocks:
            positions = block(positions, text, bias)
        return self.proj_out(rearrange(positions, "b (h w) c -> b c h w", w=x.shape[-1]).contiguous()) + x


class _Block(nn.Module):
    """Two attentions to the text and a gated layer, each added to what it takes."""

    def __init__(self, channels: int, text_channels: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = _CrossAttention(channels, text_channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = _CrossAttention(channels, text_channels, heads)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = _FeedForward(channels)

    def forward(self, x: Tensor, text: Tensor, bias: Tensor | None) -> Tensor:
        x = x + self.attn1(self.norm1(x), text, bias)
        x = x + self.attn2(self.norm2(x), text, bias)
        return x + self.ff(self.norm3(x))


class _CrossAttention(nn.Module):
    """Attention of positions, (B, N, C), to the tokens of a text."""

    def __init__(self, channels: int, text_channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(text_channels, channels, bias=False)
        self.to_v = nn.Linear(text_channels, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x: Tensor, text: Tensor, bias: Tensor | None) -> Tensor:
        projected = (self.to_q(x), self.to_k(text), self.to_v(text))
        queries, keys, values = (rearrange(part, "b n (k c) -> b k n c", k=self.heads) for part in projected)
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
        return self.to_out(rearrange(attended, "b k n c -> b n (k c)"))


class _FeedForward(nn.Module):
    """Two linear layers around a gated unit (Shazeer, GLU Variants Improve Transformer, 2020)."""

    def __init__(self, channels: int):
        super().__init__()
        self.net = nn.ModuleList(
            [_GatedLinear(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels)]
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.net:
            x = layer(x)
        return x


class _GatedLinear(nn.Module):
    def __init__(self, before: int, width: int):
        super().__init__()
        self.proj = nn.Linear(before, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        hidden, gate = self.proj(x).chunk(2, -1)
        return hidden * F.gelu(gate)
