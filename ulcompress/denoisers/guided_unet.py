"""The denoising network of images, guided by an estimate of them and by the syntax."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ulcompress.denoisers.attention import MapAttention
from ulcompress.denoisers.base import Context, Denoiser, check_maps, maps_of, text_of
from ulcompress.denoisers.consistency import ConsistencyEncoder
from ulcompress.denoisers.fusion import FUSIONS, STEERED, SyntaxFusion
from ulcompress.denoisers.pyramid import Pyramid
from ulcompress.denoisers.residual_block import ChannelNorm, ResidualBlock
from ulcompress.denoisers.time_embedding import TimeEmbedding
from ulcompress.part import loadable
from ulcompress.records import Condition

SINUSOIDS = 128


@loadable(plain=["maps", "fusion"])
class GuidedUNet(Denoiser):
    """Predicts from a noisy image, the time, and maps of the condition; the syntax controls the upward path.

        maps ─► consistency encoder ─► e_0, e_1 ... e_N, once a sample and patch

        x_t, maps ─► Pyramid ─► d_0, d_1 ... d_N ─► attention (of d_N alone)

        d_N ───────► fusion(·, e_N, syntax) ─► f_N ─► with d_N ─► blocks ─► u_N
        up(u_N) ───► fusion(·, e_N-1, syntax) ► f_N-1 ► with d_N-1 ► blocks ─► u_N-1 ... u_0 ─► prediction

    Only the attention has a larger receptive field than the convolutions, and no statistic is taken over positions, so
    the network generalises from crops to patches of any size. The last layer starts at zero. Source: CGDM (Kuang et
    al., ACM MM 2024), the architecture figure, where the only map is the base reconstruction; the sizes, which are not
    published, and the patches in place of pixels are choices of this package.
    """

    def __init__(
        self,
        *,
        channels: int = 3,
        maps: dict[str, int] | None = None,
        consistency: ConsistencyEncoder | None = None,
        widths: Sequence[int] = (64, 128, 192, 256),
        patch_size: int = 4,
        blocks: int = 2,
        syntax_channels: int | None = 64,
        text_channels: int | None = None,
        fusion: str = "syntax",
        attention: bool = True,
    ):
        """Build the network with random weights.

        Args:
            channels: Channels of the target: 3 for an image.
            maps: Fields of the condition that it takes beside x_t, with their channels; by default `estimate`, the
                decoder's estimate of the target.
            consistency: The branch that takes the maps alone, of the same widths and patch size; None leaves it out.
            widths: Channels of each level, finest first; every level but the last halves the resolution.
            patch_size: Side of the square of pixels that is one position of the finest level; 1 works at full
                resolution as the paper does, and costs sixteen times as much as 4.
            blocks: Residual blocks a level, on the downward and on the upward path.
            syntax_channels: Channels of the syntax, which the fusions `syntax` and `gain` take; None if there is none.
            text_channels: Channels of the text embeddings; None takes no text.
            fusion: How the upward path takes the consistency features: `syntax` weighs channels by the syntax, `static`
                by learned constants; `gain` has the constants, and multiplies what a level adds by one positive factor
                from the syntax; `concatenate` leaves it to a convolution.
            attention: Self-attention at the coarsest level, and cross-attention to the text.

        Raises:
            ValueError: An option has an unknown value, two of them contradict, or the consistency encoder does not fit.
        """
        super().__init__()
        if fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}, got {fusion!r}")
        if fusion in STEERED and syntax_channels is None:
            raise ValueError(
                f"the fusion {fusion!r} needs syntax_channels; set them, or fusion to static or concatenate"
            )
        if text_channels is not None and not attention:
            raise ValueError("text enters by attention; set attention to true, or leave text_channels out")
        self.channels = channels
        self.maps = check_maps(maps if maps is not None else {"estimate": channels})
        self.multiple = patch_size * 2 ** (len(widths) - 1)
        if consistency is not None:
            self._check_consistency(consistency, tuple(widths), patch_size)
        syntax = {"syntax": syntax_channels} if fusion in STEERED and syntax_channels is not None else {}
        text = {"text": text_channels} if text_channels is not None else {}
        self.requires = frozenset([*self.maps, *syntax])
        self.condition_channels = self.maps | syntax | text

        time_channels = 4 * widths[0]
        self.time = TimeEmbedding(SINUSOIDS, time_channels)
        self.down = Pyramid(
            channels + sum(self.maps.values()),
            widths,
            patch_size=patch_size,
            blocks=blocks,
            time_channels=time_channels,
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
                    width,
                    fusion=fusion,
                    syntax_channels=syntax_channels or 0,
                    consistency=consistency is not None,
                ),
                blocks=blocks,
                time_channels=time_channels,
            )
            for width, coarser in itertools.zip_longest(widths, widths[1:])
        )
        last = nn.Conv2d(widths[0], channels * patch_size**2, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # pyright: ignore[reportArgumentType]
        self.head = nn.Sequential(ChannelNorm(widths[0]), nn.SiLU(), last, nn.PixelShuffle(patch_size))
        # Last: optimisers number the parameters, and old checkpoints number these after the others.
        self.consistency = consistency

    def _check_consistency(self, encoder: ConsistencyEncoder, widths: tuple[int, ...], patch_size: int) -> None:
        expected = {"channels": sum(self.maps.values()), "widths": widths, "patch_size": patch_size}
        for name, value in expected.items():
            if getattr(encoder, name) != value:
                raise ValueError(
                    f"the ConsistencyEncoder has {name}={getattr(encoder, name)} but the GuidedUNet that it guides "
                    f"needs {name}={value}; set both to the same"
                )

    def checkpoint_activations(self) -> None:
        """Compute those within residual blocks a second time."""
        for block in self.blocks():
            block.checkpointed = True

    def blocks(self) -> Sequence[ResidualBlock]:
        """Return the residual blocks, also those of the consistency branch."""
        return [module for module in self.modules() if isinstance(module, ResidualBlock)]

    def context(self, condition: Condition) -> Context:
        """Return the consistency features of the maps, finest first."""
        return () if self.consistency is None else self.consistency(torch.cat(maps_of(condition, self.maps), 1))

    def forward(self, noisy: Tensor, times: Tensor, condition: Condition, context: Context = ()) -> Tensor:
        """Map x_t, (B, C, H, W), times (B,), the condition and its context to a prediction, (B, C, H, W)."""
        assert (len(context) > 0) == (self.consistency is not None)
        assert not any(side % self.multiple for side in noisy.shape[-2:])
        time = self.time(times)
        syntax = condition.syntax
        if syntax is None:
            syntax = noisy.new_zeros(len(noisy), self.condition_channels.get("syntax", 0))
        skips = self.down(torch.cat([noisy, *maps_of(condition, self.maps)], 1), time)
        state = skips[-1] = self._attend(skips[-1], condition)
        guides = context or [None] * len(skips)
        for level, skip, guide in zip(reversed(self.up), reversed(skips), reversed(guides), strict=True):
            state = level(state, skip, guide, syntax, time)
        return self.head(state)

    def _attend(self, x: Tensor, condition: Condition) -> Tensor:
        if self.self_attention is not None:
            x = self.self_attention(x)
        if self.text_attention is not None:
            x = self.text_attention(x, *text_of(condition, self.condition_channels["text"], x))
        return x


class _Upward(nn.Module):
    """One level of the upward path: upsamples the coarser state, fuses it, joins the skip, and refines."""

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
