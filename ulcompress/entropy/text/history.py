"""What a byte of a text is predicted from: the bytes and the words before it."""

from collections.abc import Iterable

import numpy as np

END = 256
"""The symbol after the last byte of a text; it also stands for what would come before the first."""
ORDERS = 6
KINDS = (*(f"order-{order}" for order in range(1, ORDERS + 1)), "word", "word-1", "skip", "word-2", "word-3")
"""The contexts of a byte: the 1 to 6 bytes before it; what there is of the present word, alone or with the one, two or
three words before it; and with the word before the last."""
_BITS = 64
_MASK = (1 << _BITS) - 1
_FACTOR = 0x9E3779B97F4A7C15
_SALTS = np.arange(1, len(KINDS) + 1, dtype=np.uint64) * np.uint64(0xD6E8FEB86659FD93)


class History:
    """The bytes of a text so far. Words are told apart without regard to the case of ASCII letters."""

    def __init__(self):
        self._recent = 0
        for _ in range(ORDERS):
            self._remember(END)
        self._words = (0, 0, 0)
        self._word = 0
        self._gap = 0

    def append(self, byte: int) -> None:
        """Take the next byte."""
        self._remember(byte)
        if _in_word(byte):
            self._word = _hashed(self._word + (byte | 0x20 if 65 <= byte <= 90 else byte) + 1)
            self._gap = 0
        else:
            if self._word:
                self._words = (self._word, *self._words[:2])
                self._word = 0
            self._gap = (self._gap * 257 + byte + 1) & 0xFFFF

    def keys(self) -> list[int]:
        """Return a number below 2**64 for each context, in the order of `KINDS`."""
        last, second, third = self._words
        word = _hashed(self._word * 5 + self._gap)
        pair = _hashed(word + last)
        three = _hashed(pair + second)
        orders = [self._recent & (1 << 9 * order) - 1 for order in range(1, ORDERS + 1)]
        return [*orders, word, pair, _hashed(word + (second ^ 0x55)), three, _hashed(three + third)]

    def _remember(self, byte: int) -> None:
        self._recent = (self._recent << 9 | byte) & (1 << 9 * ORDERS) - 1


def contexts(text: bytes) -> np.ndarray:
    """Return the hashed contexts of all bytes of a text and of its end, (len(text) + 1, kinds), uint64."""
    history, keys = History(), []
    for byte in text:
        keys.append(history.keys())
        history.append(byte)
    keys.append(history.keys())
    return hashed(keys)


def hashed(keys: Iterable[list[int]]) -> np.ndarray:
    """Return the contexts of rows of `History.keys`, (n, kinds), uint64."""
    return mixed(np.array(keys, dtype=np.uint64) * np.uint64(_FACTOR) + _SALTS)


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Spread 64-bit numbers one to one, so that any of their bits can address a table (MurmurHash3's finaliser)."""
    for factor in (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)):
        numbers = (numbers ^ numbers >> np.uint64(33)) * factor
    return numbers ^ numbers >> np.uint64(33)


def _hashed(number: int) -> int:
    number = number * _FACTOR & _MASK
    return number ^ number >> 31


def _in_word(byte: int) -> bool:
    """Whether a byte is a letter, a digit, an apostrophe, or part of a character outside ASCII."""
    return byte >= 128 or 97 <= byte <= 122 or 65 <= byte <= 90 or 48 <= byte <= 57 or byte == 39
