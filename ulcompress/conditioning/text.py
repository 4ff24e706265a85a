"""A caption that is sent with the image and guides the decoder."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.conditioning.base import Conditioner
from ulcompress.conditioning.caption_coder import CaptionCoder
from ulcompress.conditioning.text_encoder import TextEncoder
from ulcompress.part import class_of, loadable
from ulcompress.records import Condition, Source

Tokens = list[list[int]]


@loadable()
class TextPrompt(Conditioner):
    """Codes the caption and embeds it for cross-attention.

        caption ─► coder.tokens ─► bytes ─► tokens ─► encoder ─► text, text_mask
                                             empty ─► encoder ─► text_null (for guidance)

    Encoder and decoder see the same caption: the one that the tokens spell. Source: PerCo, arXiv 2310.10325,
    section 3: the global part of the condition, with text dropped at random in training.
    """

    provides = frozenset({"text", "text_mask", "text_null"})
    sends = True

    def __init__(self, *, coder: CaptionCoder, encoder: TextEncoder, dropout: float = 0.1):
        """Take the parts.

        Args:
            coder: Caption to tokens to bytes and back.
            encoder: Caption to embeddings.
            dropout: Share of training samples whose caption the decoder does not see.
        """
        super().__init__()
        known = getattr(encoder, "vocabulary_size", None)
        if known is not None and known != coder.vocabulary.vocabulary_size:
            raise ValueError(
                f"{type(encoder).__name__} knows {known} tokens but the text coder's vocabulary has "
                f"{coder.vocabulary.vocabulary_size}; set both `vocabulary_size` to the same number"
            )
        longest = getattr(encoder, "max_tokens", None)
        if longest is not None and coder.max_tokens is not None and longest < coder.max_tokens:
            raise ValueError(
                f"{type(encoder).__name__} reads {longest} tokens but the text coder sends up to {coder.max_tokens}; "
                "set both `max_tokens` to the same number"
            )
        self.coder = coder
        self.encoder = encoder
        self.dropout = dropout

    @classmethod
    def nominal_cost(cls, arguments: Mapping[str, Any]) -> str:
        """Say what its coder says."""
        coder = arguments["coder"]
        return class_of(coder["class_path"]).nominal_cost(coder["init_args"])  # pyright: ignore[reportAttributeAccessIssue]

    def channels(self, features: int) -> dict[str, int]:
        """As many as the text encoder gives."""
        return {"text": self.encoder.channels}

    def prepare(self, captions: list[str]) -> None:
        """Learn the vocabulary and the frequencies of its tokens, unless they have been learnt."""
        if not self.coder.prepared:
            self.coder.prepare(captions)

    def encode(self, source: Source, condition: Condition) -> Tokens:
        """Return the tokens of each caption; none for an image without a caption."""
        return [self.coder.tokens(caption) if caption else [] for caption in source.captions]

    def remark(self, caption: str) -> str | None:
        """Say how a caption is cut, or that the text encoder does not read all of it."""
        tokens = self.coder.tokens(caption)
        if not self.coder.fits(caption):
            return f"the caption is longer than {self.coder.limit} and is cut to {self.coder.text(tokens)!r}"
        longest = getattr(self.encoder, "max_tokens", None)
        if longest is not None and len(tokens) > longest:
            read = self.coder.text(tokens[:longest])
            return f"the caption is sent whole, but the decoder reads its first {longest} tokens only: {read!r}"
        return None

    def captions(self, side: Tokens) -> list[str]:
        """Return the text of each caption."""
        return [self.coder.text(tokens) for tokens in side]

    def nothing(self) -> Tokens:
        """Return no tokens."""
        return [[]]

    def shortenings(self, side: Tokens) -> Iterator[Tokens]:
        """Yield the caption without its last word, its last two, and so on to none."""
        words = self.coder.text(side[0]).split()
        for count in reversed(range(len(words))):
            yield [self.coder.tokens(" ".join(words[:count]))] if count else self.nothing()
        if not words and side[0]:  # white space alone
            yield self.nothing()

    def forward(self, side: Tokens, features: Tensor, condition: Condition) -> Condition:
        """Set the embeddings, (B, L, C), their mask, and those of the empty caption, (B, 1, C)."""
        if self.training and self.dropout > 0:
            dropped = (torch.rand(len(side)) < self.dropout).tolist()
            side = [[] if drop else tokens for drop, tokens in zip(dropped, side, strict=True)]
        text, mask = self.encoder(self.captions(side), side)
        null, _ = self.encoder([""], [[]])
        return condition.with_(text=text, text_mask=mask, text_null=null.expand(len(side), -1, -1))

    def bits(self, side: Tokens) -> Tensor:
        """Estimate the bits of each caption, (B,)."""
        return self.coder.bits(side)

    def write(self, side: Tokens, coder: ArithmeticEncoder) -> None:
        """Code the caption of one image."""
        self.coder.write(side[0], coder)

    def read(self, coder: ArithmeticDecoder) -> Tokens:
        """Read the caption of one image."""
        return [self.coder.read(coder)]
