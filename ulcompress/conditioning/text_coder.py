"""Short texts as symbols of an entropy model."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.conditioning.byte_pairs import BytePairs
from ulcompress.conditioning.caption_coder import CaptionCoder
from ulcompress.entropy.base import EntropyModel
from ulcompress.entropy.static import StaticEntropy
from ulcompress.part import loadable


@loadable()
class TextCoder(CaptionCoder):
    """Codes a text as tokens, each as the symbol token + 1, and the end as the symbol 0.

    A text is tidied first (`BytePairs.normalize`). One of `max_tokens` tokens has no end symbol, since nothing else can
    follow; an empty one is the end alone.
    """

    max_tokens: int

    def __init__(self, *, vocabulary: BytePairs, entropy: EntropyModel | None = None, max_tokens: int = 32):
        super().__init__()
        if max_tokens < 1:
            raise ValueError(f"max_tokens is {max_tokens}; give at least 1")
        self.vocabulary = vocabulary
        self.entropy = StaticEntropy() if entropy is None else entropy
        self.entropy.build(vocabulary.vocabulary_size + 1)
        self.max_tokens = max_tokens
        self.register_buffer("prepared", torch.tensor(False))

    @classmethod
    def nominal_cost(cls, arguments: Mapping[str, Any]) -> str:
        """Say how many tokens a caption has at most."""
        return f"a caption of up to {arguments['max_tokens']} tokens, coded by learnt frequencies"

    @property
    def limit(self) -> str:
        """The longest text, in words."""
        return f"{self.max_tokens} tokens"

    def prepare(self, texts: list[str]) -> None:
        """Learn vocabulary and probabilities from all texts of the training set, the same on every rank."""
        self.vocabulary.fit(texts)
        self.entropy.fit(self._symbols([self.tokens(text) for text in texts]))
        self.prepared.fill_(True)

    def fits(self, text: str) -> bool:
        """Whether the tidied text has at most `max_tokens` tokens."""
        return len(self.vocabulary.encode(self.vocabulary.normalize(text), self.max_tokens + 1)) <= self.max_tokens

    def tokens(self, text: str) -> list[int]:
        """Return the first `max_tokens` tokens of the tidied text, without a last character that the limit cuts."""
        tokens = self.vocabulary.encode(self.vocabulary.normalize(text), self.max_tokens + 1)
        cut = len(tokens) > self.max_tokens
        tokens = tokens[: self.max_tokens]
        while cut and self.text(tokens).endswith("\ufffd"):
            tokens.pop()
        return tokens

    def bits(self, tokens: list[list[int]]) -> Tensor:
        """Estimate the bits of B texts, (B,)."""
        return torch.cat([self.entropy.bits(self._symbols([text])[None]) for text in tokens])

    def write(self, tokens: list[int], coder: ArithmeticEncoder) -> None:
        """Code one text of at most `max_tokens` tokens."""
        self.entropy.write(self._symbols([tokens])[None], coder)

    def read(self, coder: ArithmeticDecoder) -> list[int]:
        """Read the tokens of one text; of a message that was cut inside it, those that are there."""
        tokens: list[int] = []
        while len(tokens) < self.max_tokens:
            symbol = int(self.entropy.read(coder, (1,)))
            if symbol == 0 or coder.ended:
                break
            tokens.append(symbol - 1)
        return tokens

    def _symbols(self, texts: list[list[int]]) -> Tensor:
        """Return the symbols of texts, one after another, (n,) int64."""
        symbols: list[int] = []
        for tokens in texts:
            assert len(tokens) <= self.max_tokens, f"{len(tokens)} tokens are more than {self.max_tokens}"
            symbols += [token + 1 for token in tokens]
            symbols += [0] * (len(tokens) < self.max_tokens)
        return torch.tensor(symbols, dtype=torch.int64)
