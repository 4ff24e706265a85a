"""Short texts, byte by byte, predicted from the bytes and words before."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder, BitstreamError, SymbolTable
from ulcompress.conditioning.byte_pairs import BytePairs
from ulcompress.conditioning.caption_coder import CaptionCoder
from ulcompress.entropy.integers import golomb_bits, read_golomb, write_golomb
from ulcompress.entropy.text import prefix_code
from ulcompress.entropy.text.history import END, KINDS, History, contexts, hashed
from ulcompress.entropy.text.mixture import STATES, TOTAL, WEIGHT_ROWS, Mixture
from ulcompress.entropy.text.prefix_code import PrefixCode
from ulcompress.functional.content_cache import ContentCache
from ulcompress.part import loadable

MOST_BYTES = 1 << 16
"""Largest `max_bytes`: a damaged file could make the decoder predict as many bytes."""
ROUNDING = 1e-3
"""Bits by which machines may differ when they compare two ways to code a text."""
_EMPTY, _PREDICTED, _SPELLED = range(3)
_KIND = SymbolTable(np.array([0, 2, 31, 32]))
"""How a text is coded: there is none, by prediction, or spelled out."""
_LEAD = [*range(128), *range(0xC2, 0xF5)]
"""The bytes with which a character of UTF-8 can begin."""
_LEADS = SymbolTable.uniform(len(_LEAD))
_FOLLOWING = SymbolTable.uniform(64)


@loadable()
class ContextMixing(CaptionCoder):
    """Codes a text as bytes of UTF-8, each by a few binary decisions whose probabilities are mixed from 11 contexts.

        up to 6 bytes before ──┐
        the word so far ───────┼─► table ─► evidence ─► weighted sum ─► probability of the next decision
        up to 3 words before ──┘                            ▲
                                    how often they were seen

    Any text without half surrogates (which UTF-8 cannot hold) comes back exactly as it is. One that is predicted badly
    is spelled out instead: 7.5 bits for a byte of ASCII, less for a byte of others. So no text costs more than the
    bytes of its UTF-8 and one. Everything that decides is an integer. The table and its weights take 2 MiB.

    A text encoder sees the text as tokens of the `vocabulary`, those of a whole text where it has no limit itself.
    """

    max_tokens = None

    def __init__(self, *, vocabulary: BytePairs | None = None, slots: int = 660_000, max_bytes: int = 1024):
        """Allocate an empty table, with which all bytes are equally likely.

        Args:
            vocabulary: The tokens that a text encoder knows; 2048 byte pairs by default.
            slots: Entries of the table, of three bytes each.
            max_bytes: Most bytes of a text; a longer one is cut after a character, of which `compress` tells.

        Raises:
            ValueError: There is no slot, or more than 2**23, or the limit is not 1 to 65536.
        """
        super().__init__()
        if not 1 <= slots <= 1 << 23:
            raise ValueError(f"slots is {slots}; give 1 to {1 << 23}")
        if not 1 <= max_bytes <= MOST_BYTES:
            raise ValueError(f"max_bytes is {max_bytes}; give 1 to {MOST_BYTES}")
        self.vocabulary = BytePairs() if vocabulary is None else vocabulary
        self.max_bytes = max_bytes
        self.lengths: Tensor
        self.states: Tensor
        self.checks: Tensor
        self.evidence: Tensor
        self.weights: Tensor
        # Of kinds of numbers that the processes of a training can send each other.
        self.register_buffer("prepared", torch.tensor(False))
        self.register_buffer("lengths", torch.from_numpy(prefix_code.equal_lengths()))
        self.register_buffer("states", torch.zeros(slots, dtype=torch.uint8))
        self.register_buffer("checks", torch.zeros(slots, 2, dtype=torch.uint8))
        self.register_buffer("evidence", torch.zeros(len(KINDS), STATES, dtype=torch.int32))
        self.register_buffer("weights", torch.zeros(WEIGHT_ROWS, len(KINDS), dtype=torch.int32))
        self._cached_model = ContentCache(_Model)

    @classmethod
    def nominal_cost(cls, arguments: Mapping[str, Any]) -> str:
        """Say how many bytes a caption has at most."""
        return f"a caption of up to {arguments['max_bytes']} bytes, coded by learnt contexts"

    @property
    def limit(self) -> str:
        """The longest text, in words."""
        return f"{self.max_bytes} bytes"

    def prepare(self, texts: list[str]) -> None:
        """Learn from texts: the vocabulary, and what `learn` does."""
        self.vocabulary.fit(texts)
        self.learn(texts)

    def learn(self, texts: list[str], background: Sequence[str] = ()) -> None:
        """Learn from texts what follows after which bytes and words, and how to weigh it; the vocabulary stays.

        Texts are tidied first, as `BytePairs.normalize` does; empty ones are left out.

        Args:
            texts: Like those that will be coded.
            background: General text of the same language, for words that `texts` lack. It counts less.
        """
        from ulcompress.entropy.text.learning import learn

        tidy, general = (
            [text.encode() for text in map(BytePairs.normalize, lines) if text] for lines in (texts, background)
        )
        if tidy:
            for name, value in vars(learn(tidy, len(self.states), general)).items():
                getattr(self, name).copy_(torch.from_numpy(value))
        self.prepared.fill_(True)

    def check_state(self) -> None:
        """Raise ValueError where states or lengths are none that learning produces."""
        if int(self.states.max()) >= STATES:
            raise ValueError(f"the table of the captions is damaged: it has the state {int(self.states.max())}")
        if not prefix_code.is_complete(self.lengths.cpu().numpy()):
            raise ValueError("the tree of the captions' bytes is damaged: its lengths are those of no complete code")

    def fits(self, text: str) -> bool:
        """Whether a text has at most `max_bytes` bytes."""
        return len(text.encode(errors="replace")) <= self.max_bytes

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of a text, or of its beginning where it does not fit; half surrogates become `?`."""
        start = text.encode(errors="replace")[: self.max_bytes]
        return self.vocabulary.encode(start.decode(errors="ignore"))

    def bits(self, tokens: list[list[int]]) -> Tensor:
        """Return the ideal bits of B texts, (B,)."""
        costs = [min(self._costs(self.text(text)).values()) for text in tokens]
        return torch.tensor(costs, device=self.prepared.device)

    def write(self, tokens: list[int], coder: ArithmeticEncoder) -> None:
        """Code one text in the way that takes the fewest bits."""
        text = self.text(tokens)
        if not self.fits(text):
            raise ValueError(f"got a caption of more than {self.limit}; take its `tokens`, which are cut")
        costs = self._costs(text)
        way = min(costs, key=costs.__getitem__)
        _KIND.encode(way, coder)
        if way == _PREDICTED:
            self._model().write(text.encode(), coder)
        elif way == _SPELLED:
            _spell(text, coder)

    def read(self, coder: ArithmeticDecoder) -> list[int]:
        """Read the tokens of one text; of a message that was cut inside it, those of the whole characters there."""
        way = _KIND.decode(coder)
        if coder.ended or way == _EMPTY:
            return []
        read = self._model().read(coder) if way == _PREDICTED else _spelled(coder)
        data = bytearray()
        for byte in read:
            data.append(byte)
            if len(data) > self.max_bytes:
                raise BitstreamError(f"the file is damaged: its caption has more than {self.limit}")
        if coder.ended:
            return self.vocabulary.encode(data.decode(errors="ignore"))
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise BitstreamError("the file is damaged: its caption is no text") from error
        costs = self._costs(text)
        if costs.get(way, math.inf) > min(costs.values()) + ROUNDING:
            raise BitstreamError("the file is damaged: its caption is coded in a longer way than necessary")
        return self.vocabulary.encode(text)

    def _costs(self, text: str) -> dict[int, float]:
        """Return the bits of a text by the ways to code it."""
        if not text:
            return {_EMPTY: _KIND.bits(_EMPTY)}
        return {
            _PREDICTED: _KIND.bits(_PREDICTED) + self._model().bits(text.encode()),
            _SPELLED: _KIND.bits(_SPELLED) + _spelling_bits(text),
        }

    def _model(self) -> "_Model":
        return self._cached_model(self.lengths, self.states, self.checks, self.evidence, self.weights)


class _Model:
    """The mixture and the tree of the bytes in use."""

    def __init__(self, lengths: np.ndarray, *tables: np.ndarray):
        self._code = PrefixCode(lengths)
        self._mixture = Mixture(*tables)

    def bits(self, text: bytes) -> float:
        """Return the ideal bits of a text and its end."""
        parts, _ = self._parts(text)
        return float(-np.log2(parts / TOTAL).sum())

    def write(self, text: bytes, coder: ArithmeticEncoder) -> None:
        """Code the bytes of a text and its end."""
        parts, decisions = self._parts(text)
        for part, decision in zip(parts.tolist(), decisions.tolist(), strict=True):
            coder.encode(0 if decision else TOTAL - part, part, TOTAL)

    def read(self, coder: ArithmeticDecoder) -> Iterator[int]:
        """Yield the bytes of a text up to its end, or to that of a message that was cut."""
        history, last = History(), END
        while True:
            symbol = self._read_symbol(coder, hashed([history.keys()]), np.array([last]))
            if symbol is None or symbol == END:
                return
            yield symbol
            history.append(symbol)
            last = symbol

    def _read_symbol(self, coder: ArithmeticDecoder, context: np.ndarray, last: np.ndarray) -> int | None:
        node, symbol = 1, None
        while symbol is None and not coder.ended:
            ones = int(self._mixture.probabilities(context, np.array([node]), last)[0])
            decision = coder.target(TOTAL) < ones
            coder.consume(*((0, ones) if decision else (ones, TOTAL - ones)), TOTAL)
            node = node << 1 | decision
            symbol = self._code.symbol(node)
        return None if coder.ended else symbol

    def _parts(self, text: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Return the share that each decision of a text has of TOTAL, and the decisions, (n,) each."""
        symbols = np.append(np.frombuffer(text, np.uint8), END).astype(np.int64)
        position, node, decision = self._code.decisions(symbols)
        last = np.concatenate([[END], symbols[:-1]])[position]
        ones = self._mixture.probabilities(contexts(text)[position], node, last)
        return np.where(decision == 1, ones, TOTAL - ones), decision


def _spell(text: str, coder: ArithmeticEncoder) -> None:
    """Code the number of characters and their bytes, all equally likely."""
    write_golomb(len(text), coder)
    for character in text:
        lead, *following = character.encode()
        _LEADS.encode(_LEAD.index(lead), coder)
        for byte in following:
            _FOLLOWING.encode(byte & 0x3F, coder)


def _spelled(coder: ArithmeticDecoder) -> Iterator[int]:
    """Yield the bytes that `_spell` coded, up to the end of a message that was cut."""
    for _ in range(read_golomb(coder)):
        lead = _LEAD[_LEADS.decode(coder)]
        for byte in (lead, *(0x80 | _FOLLOWING.decode(coder) for _ in range(_followers(lead)))):
            if coder.ended:
                return
            yield byte


def _followers(lead: int) -> int:
    """Return how many bytes follow the first one of a character."""
    return (lead >= 0xC2) + (lead >= 0xE0) + (lead >= 0xF0)


def _spelling_bits(text: str) -> float:
    following = len(text.encode()) - len(text)
    return golomb_bits(len(text)) + len(text) * _LEADS.bits(0) + following * _FOLLOWING.bits(0)
