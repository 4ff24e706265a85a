"""A vocabulary of byte pairs, learnt from captions.

Method: Sennrich, Haddow and Birch, "Neural machine translation of rare words with subword units", ACL 2016, on bytes.
Hugging Face's `tokenizers` is not used: it has the word characters of another version of Unicode than Python and so
splits some texts elsewhere, and for captions one at a time it is no faster and starts later.
"""

import re
from collections import Counter, defaultdict
from heapq import heapify, heappop, heappush
from itertools import islice, pairwise

import numpy as np
import torch
from torch import Tensor

from ulcompress.functional.content_cache import ContentCache
from ulcompress.part import Part, loadable

# The time for a word grows with the square of its length, so longer ones are split.
_WORD = re.compile(r" ?\w{1,64}| ?[^\w\s]{1,64}|\s{1,64}")
_BLANK_BEFORE = re.compile(r" +(?=[,.;:!?%)\]}])")
_KNOWN_WORDS = 1 << 16
_MOST_BYTES = 1 << 24
"""Limit of the bytes of all tokens together; without one each merge of a damaged file could double them."""

Pair = tuple[int, int]


@loadable()
class BytePairs(Part):
    """Turns text into tokens and back, any text without loss.

    Tokens below 256 are bytes of UTF-8; token 256 + k joins the two tokens in row k of the buffer `merges`,
    (vocabulary_size - 256, 2) int64, which is -1 where unused. Before `fit` every byte is one token.
    """

    merges: Tensor

    def __init__(self, *, vocabulary_size: int = 2048):
        super().__init__()
        if not 256 <= vocabulary_size < 2**18:
            raise ValueError(f"vocabulary_size is {vocabulary_size}; give 256 (the bytes alone) to {2**18 - 1}")
        self.vocabulary_size = vocabulary_size
        self.register_buffer("merges", torch.full((vocabulary_size - 256, 2), -1, dtype=torch.int64))
        self._cached_merges = ContentCache(_Merges)

    def fit(self, texts: list[str]) -> None:
        """Learn the most useful merges of texts; the result depends on the words and their counts alone."""
        words = Counter(word for text in texts for word in _WORD.findall(self.normalize(text)))
        pairs = _learn(words, len(self.merges))
        self.merges.fill_(-1)
        self.merges[: len(pairs)] = torch.tensor(pairs, dtype=torch.int64).view(-1, 2)

    def check_state(self) -> None:
        """Raise ValueError where a merge joins tokens that no earlier row defines, or the tokens become too long."""
        pairs = self.merges.cpu().numpy()
        used = int((pairs[:, 0] >= 0).sum())
        earlier = np.arange(256, 256 + used)[:, None]
        if (pairs[used:] != -1).any() or not ((pairs[:used] >= 0) & (pairs[:used] < earlier)).all():
            raise ValueError("the merges of the byte pairs are damaged: one joins tokens that no earlier row defines")
        lengths = [1] * 256
        for left, right in pairs[:used].tolist():
            lengths.append(lengths[left] + lengths[right])
            if lengths[-1] > _MOST_BYTES:
                break
        if sum(lengths) > _MOST_BYTES:
            raise ValueError(f"the merges of the byte pairs are damaged: they make more than {_MOST_BYTES} bytes")

    def encode(self, text: str, most: int | None = None) -> list[int]:
        """Return the tokens of a text, or its first `most`, each in 0..vocabulary_size-1; empty for an empty text."""
        merges = self._merges()
        tokens = (token for word in _WORD.finditer(text) for token in merges.tokens(word[0]))
        return list(islice(tokens, most))

    def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens; bytes that are not UTF-8 become U+FFFD, unused tokens nothing."""
        pieces = self._merges().pieces
        return b"".join(pieces[token] for token in tokens if token < len(pieces)).decode(errors="replace")

    @staticmethod
    def normalize(text: str) -> str:
        """Tidy white space, take blanks before punctuation away, replace half surrogates (which UTF-8 cannot hold)."""
        text = text.encode(errors="replace").decode()
        return _BLANK_BEFORE.sub("", " ".join(text.split()))

    def _merges(self) -> "_Merges":
        return self._cached_merges(self.merges)


class _Merges:
    """The lookup tables of encoding and decoding."""

    def __init__(self, pairs: np.ndarray):
        self.pieces = [bytes([byte]) for byte in range(256)]
        self._token: dict[Pair, int] = {}
        self._known: dict[str, list[int]] = {}
        for left, right in pairs[pairs[:, 0] >= 0].tolist():
            self._token[left, right] = len(self.pieces)
            self.pieces.append(self.pieces[left] + self.pieces[right])

    def tokens(self, word: str) -> list[int]:
        """Apply the merges to a word in the order in which they were learnt."""
        if word in self._known:
            return self._known[word]
        tokens = list(word.encode(errors="replace"))
        while found := [pair for pair in pairwise(tokens) if pair in self._token]:
            first = min(found, key=self._token.__getitem__)
            tokens = _join(tokens, first, self._token[first])
        if len(self._known) >= _KNOWN_WORDS:
            self._known.clear()
        self._known[word] = tokens
        return tokens


def _learn(words: Counter[str], most: int) -> list[Pair]:
    """Return the merges, the most frequent pair first each time; of equally frequent ones the smallest."""
    spelled = [(list(word.encode()), count) for word, count in words.items()]
    counts: Counter[Pair] = Counter()
    homes: defaultdict[Pair, set[int]] = defaultdict(set)
    for index, (tokens, count) in enumerate(spelled):
        for pair in pairwise(tokens):
            counts[pair] += count
            homes[pair].add(index)
    queue = [(-count, pair) for pair, count in counts.items()]
    heapify(queue)
    merges: list[Pair] = []
    while queue and len(merges) < most:
        negative, pair = heappop(queue)
        if negative != -counts[pair]:
            continue  # its count has changed since; a newer entry is in the queue
        if negative > -2:
            break
        changed: set[Pair] = set()
        for index in homes[pair]:
            before, count = spelled[index]
            after = _join(before, pair, 256 + len(merges))
            spelled[index] = after, count
            for near in pairwise(before):
                counts[near] -= count
                changed.add(near)
            for near in pairwise(after):
                counts[near] += count
                homes[near].add(index)
                changed.add(near)
        merges.append(pair)
        for near in changed:
            heappush(queue, (-counts[near], near))
    return merges


def _join(tokens: list[int], pair: Pair, joined: int) -> list[int]:
    """Replace every occurrence of a pair, from the left."""
    result: list[int] = []
    for token in tokens:
        if result and (result[-1], token) == pair:
            result[-1] = joined
        else:
            result.append(token)
    return result
