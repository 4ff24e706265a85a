"""From captions to the embeddings to which the denoiser attends."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ulcompress.part import Part, loadable


class TextEncoder(Part, ABC):
    """Embeds captions."""

    channels: int
    """Channels of the embeddings."""

    @abstractmethod
    def forward(self, texts: Sequence[str], tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Embed captions, which are passed both as text and as the text coder's tokens.

        Returns embeddings (B, L, channels) and a mask (B, L), true where a token counts. An empty caption has at
        least one token that counts.
        """


@loadable()
class TokenTransformer(TextEncoder):
    """A small transformer over the tokens of the text coder.

    tokens ─► start token + embedding + position ─► pre-norm transformer layers ─► norm
    """

    def __init__(
        self,
        *,
        vocabulary_size: int = 2048,
        max_tokens: int = 32,
        channels: int = 128,
        layers: int = 2,
        heads: int = 4,
    ):
        """Build the network with random weights.

        Args:
            vocabulary_size: Number of the text coder's tokens.
            max_tokens: Tokens of the longest caption; longer ones are truncated.
            channels: Width of the network and of the embeddings.
            layers: Number of transformer layers.
            heads: Number of attention heads.
        """
        super().__init__()
        self.channels = channels
        self.vocabulary_size = vocabulary_size
        self.max_tokens = max_tokens
        self.embedding = nn.Embedding(vocabulary_size + 1, channels)  # the last one is the start token
        self.position = nn.Parameter(0.02 * torch.randn(max_tokens + 1, channels))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                channels, heads, 4 * channels, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(channels)

    def forward(self, texts: Sequence[str], tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Embed token lists; returns (B, L, channels) and the mask (B, L)."""
        rows = [[self.vocabulary_size, *row[: self.max_tokens]] for row in tokens]
        length = max(len(row) for row in rows)
        device = self.position.device
        ids = torch.tensor([row + [0] * (length - len(row)) for row in rows], device=device)
        mask = torch.tensor([[n < len(row) for n in range(length)] for row in rows], device=device)
        hidden = self.embedding(ids) + self.position[:length]
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=~mask)
        return self.norm(hidden), mask
