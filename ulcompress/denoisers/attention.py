"""Attention over the positions of a map."""

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ulcompress.denoisers.residual_block import ChannelNorm

HEAD_CHANNELS = 32


class MapAttention(nn.Module):
    """Adds to every position of a map its attention to all positions, or to the tokens of a text.

        x ─┬─► channel norm ─► queries ─► attention ─► 1x1 ─► + ─►
           │                                  ▲               │
           │          x or text ─► keys, values               │
           └──────────────────────────────────────────────────┘

    Source: Vaswani et al., Attention Is All You Need, NIPS 2017, section 3.2; without positions.
    """

    def __init__(self, channels: int, *, text_channels: int | None = None):
        """Build self-attention, or cross-attention where the text has channels."""
        super().__init__()
        self.heads = max(1, channels // HEAD_CHANNELS)
        inner = self.heads * HEAD_CHANNELS
        self.norm = ChannelNorm(channels)
        self.queries = nn.Linear(channels, inner, bias=False)
        self.keys_values = nn.Linear(channels if text_channels is None else text_channels, 2 * inner, bias=False)
        self.output = nn.Linear(inner, channels)

    def forward(self, x: Tensor, text: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Map (B, C, h, w) to the same shape.

        Args:
            x: The map.
            text: Token embeddings (B, L, text_channels), for cross-attention.
            mask: True where a token counts, (B, L); None: all count.
        """
        positions = rearrange(self.norm(x), "b c h w -> b (h w) c")
        queries = self._split(self.queries(positions))
        keys, values = map(self._split, self.keys_values(positions if text is None else text).chunk(2, -1))
        attended = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=None if mask is None else mask[:, None, None]
        )
        added = self.output(rearrange(attended, "b k n c -> b n (k c)"))
        return x + rearrange(added, "b (h w) c -> b c h w", w=x.shape[-1])

    def _split(self, tokens: Tensor) -> Tensor:
        """Return (B, heads, L, channels of a head) of (B, L, C)."""
        return rearrange(tokens, "b n (k c) -> b k n c", k=self.heads)
