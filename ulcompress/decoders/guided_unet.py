"""The denoising network in pixel space, guided by a base reconstruction and by the syntax."""

import itertools
from collections.abc import Sequence

import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import Tensor, nn
from torch.nn import functional as F

from ulcompress.decoders.attention import MapAttention
from ulcompress.decoders.fusion import FUSIONS, SyntaxFusion
from ulcompress.decoders.pyramid import Pyramid
from ulcompress.decoders.residual import ChannelNorm, ResidualBlock
from ulcompress.part import Part, loadable

SINUSOIDS = 128


@loadable(plain=["fusion"])
class GuidedUNet(Part):
    """Predicts from a noisy image, the time, and the base reconstruction; the syntax steers the way up.

        x_t, base ─► Pyramid ─► d_0, d_1 ... d_N ─► attention (of d_N alone)

        d_N ───────► fusion(·, e_N, syntax) ─► f_N ─► with d_N ─► blocks ─► u_N
        up(u_N) ───► fusion(·, e_N-1, syntax) ► f_N-1 ► with d_N-1 ► blocks ─► u_N-1 ... u_0 ─► prediction

    Nothing but the attention looks further than the convolutions reach, and no statistic is taken over positions, so
    the network carries over from crops to patches of any size. The last layer starts at zero. Source: CGDM (Kuang et
    al., ACM MM 2024), the architecture figure; the sizes, which are not published, and the patches in place of pixels
    are our own.
    """

    channels = 3

    def __init__(
        self,
        *,
        widths: Sequence[int] = (64, 128, 192, 256),
        patch_size: int = 4,
        blocks: int = 2,
        syntax_channels: int | None = 64,
        text_channels: int | None = None,
        fusion: str = "syntax",
        consistency: bool = True,
        attention: bool = True,
    ):
        """Build the network with random weights.

        Args:
            widths: Channels of each level, finest first; every level but the last halves the resolution.
            patch_size: Side of the square of pixels that is one position of the finest level; 1 works at full
                resolution as the paper does, and costs sixteen times as much as 4.
            blocks: Residual blocks a level, on the way down and on the way up.
            syntax_channels: Of the syntax, which only the fusion `syntax` takes; None if there is none.
            text_channels: Of the text embeddings; None takes no text.
            fusion: How the base's features join on the way up: `syntax` weighs channels by the syntax, `static` by
                learned constants, `concatenate` leaves it to a convolution.
            consistency: Whether there is a `ConsistencyEncoder`, whose features join.
            attention: Self-attention at the coarsest level, and cross-attention to the text.

        Raises:
            ValueError: An option has no such value, or two of them contradict.
        """
        super().__init__()
        if fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}, got {fusion!r}")
        if fusion == "syntax" and syntax_channels is None:
            raise ValueError("the fusion 'syntax' needs syntax_channels; set them, or fusion to static or concatenate")
        if text_channels is not None and not attention:
            raise ValueError("text enters by attention; set attention to true, or leave text_channels out")
        self.widths = tuple(widths)
        self.patch_size = patch_size
        self.multiple = patch_size * 2 ** (len(widths) - 1)
        self.consistency = consistency
        self.condition_channels = {"base": 3}
        if fusion == "syntax" and syntax_channels is not None:
            self.condition_channels["syntax"] = syntax_channels
        if text_channels is not None:
            self.condition_channels["text"] = text_channels

        time_channels = 4 * widths[0]
        self.sinusoids = Timesteps(SINUSOIDS, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time = TimestepEmbedding(SINUSOIDS, time_channels)
        self.down = Pyramid(
            2 * self.channels, widths, patch_size=patch_size, blocks=blocks, time_channels=time_channels
        )
        self.self_attention = MapAttention(widths[-1]) if attention else None
        self.text_attention = (
            MapAttention(widths[-1], text_channels=text_channels) if text_channels is not None else None
        )
        self.up = nn.ModuleList(
            _Upward(
                width,
                coarser=coarser,
                fusion=SyntaxFusion(
                    width, fusion=fusion, syntax_channels=syntax_channels or 0, consistency=consistency
                ),
                blocks=blocks,
                time_channels=time_channels,
            )
            for width, coarser in itertools.zip_longest(widths, widths[1:])
        )
        last = nn.Conv2d(widths[0], self.channels * patch_size**2, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # pyright: ignore[reportArgumentType]
        self.head = nn.Sequential(ChannelNorm(widths[0]), nn.SiLU(), last, nn.PixelShuffle(patch_size))

    def forward(
        self,
        noisy: Tensor,
        times: Tensor,
        base: Tensor,
        features: Sequence[Tensor] | None = None,
        syntax: Tensor | None = None,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
    ) -> Tensor:
        """Predict from x_t.

        Args:
            noisy: x_t, (B, 3, H, W); sides are multiples of `multiple`.
            times: 0 to 999, (B,).
            base: The base reconstruction in [-1, 1], (B, 3, H, W).
            features: Of the consistency encoder, finest first; None for a network that was built without.
            syntax: (B, syntax_channels); None is a vector of zeros. A network that takes none ignores it.
            text: Token embeddings, (B, L, text_channels); None is a token of zeros. A network that takes none
                ignores it.
            text_mask: True where a token counts, (B, L); None: all count.

        Returns:
            The prediction, (B, 3, H, W).
        """
        assert (features is not None) == self.consistency
        assert noisy.shape == base.shape and not any(side % self.multiple for side in noisy.shape[-2:])
        time = self.time(self.sinusoids(times).to(noisy.dtype))
        if syntax is None:
            syntax = noisy.new_zeros(len(noisy), self.condition_channels.get("syntax", 0))
        skips = self.down(torch.cat([noisy, base], 1), time)
        state = skips[-1] = self._attend(skips[-1], text, text_mask)
        guides = features if features is not None else [None] * len(skips)
        for level, skip, guide in zip(reversed(self.up), reversed(skips), reversed(guides), strict=True):
            state = level(state, skip, guide, syntax, time)
        return self.head(state)

    def _attend(self, x: Tensor, text: Tensor | None, mask: Tensor | None) -> Tensor:
        if self.self_attention is not None:
            x = self.self_attention(x)
        if self.text_attention is not None:
            if text is None:
                text, mask = x.new_zeros(len(x), 1, self.condition_channels["text"]), None
            x = self.text_attention(x, text, mask)
        return x


class _Upward(nn.Module):
    """One level of the way up: raises the coarser state, fuses it, joins the skip, and refines."""

    def __init__(self, width: int, *, coarser: int | None, fusion: SyntaxFusion, blocks: int, time_channels: int):
        super().__init__()
        self.narrow = nn.Conv2d(coarser, width, 1) if coarser is not None else None
        self.fusion = fusion
        self.join = nn.Conv2d(2 * width, width, 1)
        self.blocks = nn.ModuleList(ResidualBlock(width, time_channels=time_channels) for _ in range(blocks))

    def forward(self, state: Tensor, skip: Tensor, guide: Tensor | None, syntax: Tensor, time: Tensor) -> Tensor:
        if self.narrow is not None:
            state = F.interpolate(self.narrow(state), scale_factor=2, mode="nearest")
        state = self.join(torch.cat([self.fusion(state, guide, syntax), skip], 1))
        for block in self.blocks:
            state = block(state, time)
        return state
