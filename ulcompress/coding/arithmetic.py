"""Exact arithmetic coding with integer probabilities; the same bytes on every machine.

Method: the interval of a message is narrowed symbol by symbol (Witten, Neal and Cleary, "Arithmetic coding for data
compression", CACM 1987). It is kept as a lower bound and a width of 64 bits; carries propagate into the bytes written.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from math import log2

import numpy as np

from ulcompress.functional.division import ceil_div

TOTAL = 1 << 24
"""Sum of the frequencies of a table made from counts."""
MAX_ALPHABET = 1 << 18
"""Most symbols of a table made from counts: the minimum of one each then takes at most 1/64 of the interval."""

SPARE = 256
"""Most zero bytes that a message leaves out at its end; a message that would need more is damaged."""

_BITS = 64
_TOP = _BITS - 8
_MASK = (1 << _BITS) - 1


def _narrow(width: int, start: int, frequency: int, total: int) -> tuple[int, int]:
    """Return offset and width of a symbol's part of an interval."""
    assert 0 <= start < start + frequency <= total <= 1 << 32
    step = width // total
    # The last symbol takes the remainder of the division, so that every point of the interval belongs to a symbol.
    return step * start, (width - step * start if start + frequency == total else step * frequency)


class BitstreamError(ValueError):
    """The bytes are no file that this codec can decode; the message says why."""


class ArithmeticEncoder:
    """Turns a sequence of symbols, each of which is a part of an integer total, into the shortest message."""

    by_rows = False
    """Symbols of maps are spread over the map (`entropy.order`); only old files have them row by row."""

    def __init__(self):
        self._low = 0
        self._width = 1 << _BITS
        self._bytes = bytearray()

    def encode(self, start: int, frequency: int, total: int) -> None:
        """Code the symbol that owns the integers from `start` to `start + frequency` of `total` (at most 2**32)."""
        offset, self._width = _narrow(self._width, start, frequency, total)
        self._low += offset
        if self._low > _MASK:
            _carry(self._bytes)
            self._low &= _MASK
        while self._width <= 1 << _TOP:
            self._bytes.append(self._low >> _TOP)
            self._low = (self._low << 8) & _MASK
            self._width <<= 8

    def finish(self) -> bytes:
        """Return the shortest message inside the interval; the coder is not changed, and more symbols may follow.

        The decoder reads zeros past the end, so up to `SPARE` zeros at the end are not part of the message.
        """
        return _shortest(self._bytes, self._low, self._width)

    def beginning(self, size: int) -> bytes:
        """Return the first bytes of a longer message, for a decoder that knows that it was cut."""
        return bytes(self._bytes + self._low.to_bytes(_BITS // 8, "big"))[:size]


def _shortest(whole: bytes | bytearray, low: int, width: int) -> bytes:
    """Return the shortest message inside an interval, given its lower bound (whole bytes and 64 bits) and its width."""
    message = bytearray(whole)
    end = 0
    for unit in (1 << _BITS, 1 << _TOP):
        end = ceil_div(low, unit) * unit
        if end < low + width:
            break
    if end > _MASK:
        _carry(message)
    message.append((end & _MASK) >> _TOP)
    return bytes(message).rstrip(b"\0").ljust(len(message) - SPARE, b"\0")


def _carry(message: bytearray) -> None:
    """Add one to the last byte, with carries; each byte carries about once in all, since it becomes zero."""
    last = len(message) - 1
    while message[last] == 255:
        message[last] = 0
        last -= 1
    message[last] += 1


class ArithmeticDecoder:
    """Reads the message of an `ArithmeticEncoder`; any bytes decode to some symbols until they are used up.

    Of a message that was cut, the symbols are read that its bytes determine, whatever the missing bytes were. `ended`
    is true after them, and no further symbol can be read.
    """

    def __init__(self, data: bytes, *, cut: bool = False, by_rows: bool = False):
        """Take a message; `cut` says that only its beginning is there, `by_rows` that maps are not spread."""
        self.by_rows = by_rows
        self.ended = False
        self._cut = cut
        self._data = data
        self._position = 8
        self._value = int.from_bytes(data[:8].ljust(8, b"\0"), "big")
        self._width = 1 << _BITS

    @property
    def size(self) -> int:
        """Bytes of the whole message."""
        return len(self._data)

    @property
    def bits(self) -> float:
        """Ideal bits of the symbols read so far."""
        return 8 * (self._position - 8) + _BITS - log2(self._width)

    def target(self, total: int) -> int:
        """Return an integer in 0..total-1 that the next symbol owns."""
        return min(self._value // (self._width // total), total - 1)

    def consume(self, start: int, frequency: int, total: int) -> None:
        """Step over the symbol that owns the target, or set `ended`; the arguments are those of its `encode`.

        Raises:
            BitstreamError: The message is too short to hold this symbol.
        """
        offset, width = _narrow(self._width, start, frequency, total)
        value = self._value - offset
        assert 0 <= value < width, "the consumed symbol does not own the target"
        if self._cut and value + self._unknown >= width:
            self.ended = True
            return
        while width <= 1 << _TOP:
            byte = self._data[self._position] if self._position < len(self._data) else 0
            value = value << 8 | byte
            width <<= 8
            self._position += 1
        self._value, self._width = value, width
        # The encoder has written a byte for each that is read after the first eight, and one at its end.
        if self._position - 8 >= self.size + SPARE:
            raise BitstreamError(f"the file is damaged: its payload of {self.size} bytes cannot hold the image")

    def check_end(self) -> None:
        """Raise BitstreamError unless the bytes are those that an encoder writes for the symbols that were read."""
        if self._cut:
            if not self.ended:
                raise BitstreamError("the file is damaged: it says that it was cut, but its payload lacks nothing")
            return
        read = int.from_bytes(self._data[: self._position].ljust(self._position, b"\0"), "big")
        low = (read - self._value).to_bytes(self._position, "big")
        if _shortest(low[:-8], int.from_bytes(low[-8:], "big"), self._width) != self._data:
            raise BitstreamError("the file is damaged: its payload has bytes that no encoder writes for its symbols")

    @property
    def _unknown(self) -> int:
        """The largest number that the missing bytes can add to the value."""
        return (1 << 8 * max(0, self._position - len(self._data))) - 1


class SymbolTable:
    """Integer probabilities of the symbols 0..n-1.

    `bounds` are n + 1 increasing int64 that begin with 0: symbol s owns the integers from bounds[s] to bounds[s + 1].
    """

    def __init__(self, bounds: np.ndarray):
        assert bounds.ndim == 1 and len(bounds) >= 2 and bounds[0] == 0
        self.bounds = bounds
        self.total = int(bounds[-1])

    @classmethod
    def from_counts(cls, counts: np.ndarray) -> SymbolTable:
        """Make probabilities in proportion to counts, none of them zero, by integer arithmetic alone.

        `counts` is (n,), int64, not negative, 1 <= n <= 2**18, else ValueError; all zero means equally likely.
        """
        n = counts.size
        if counts.ndim != 1 or not 1 <= n <= MAX_ALPHABET:
            raise ValueError(f"counts have shape {counts.shape}; give a vector of 1 to {MAX_ALPHABET} counts")
        if counts.dtype != np.int64 or counts.min() < 0:
            raise ValueError(f"counts are {counts.dtype} from {counts.min()}; give int64, none below 0")
        # Summed in halves: int64 would overflow. The sum is then cut to 38 bits: times the total it stays below 2**63.
        total = (int((counts >> 32).sum()) << 32) + int((counts & 0xFFFFFFFF).sum())
        if total == 0:
            return cls.uniform(n)
        ends = np.cumsum(counts >> max(0, total.bit_length() - 38))
        ends = ends * (TOTAL - n) // ends[-1] + np.arange(1, n + 1)
        return cls(np.concatenate([np.zeros(1, np.int64), ends]))

    @classmethod
    def uniform(cls, n: int) -> SymbolTable:
        """Make n equally likely symbols."""
        if n < 1:
            raise ValueError(f"the alphabet has {n} symbols; it needs at least 1")
        return cls(np.arange(n + 1, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def encode(self, symbol: int, coder: ArithmeticEncoder) -> None:
        """Code one symbol."""
        coder.encode(*self._part(symbol), self.total)

    def decode(self, coder: ArithmeticDecoder) -> int:
        """Read one symbol; the most probable one after the end of a message that was cut."""
        if not coder.ended:
            symbol = int(self.bounds.searchsorted(coder.target(self.total), "right")) - 1
            coder.consume(*self._part(symbol), self.total)
            if not coder.ended:
                return symbol
        return self.likeliest

    def bits(self, symbol: int) -> float:
        """Return the ideal bits of a symbol."""
        return float(self.costs[symbol])

    @cached_property
    def likeliest(self) -> int:
        """The most probable symbol, the first of several."""
        return int(np.diff(self.bounds).argmax())

    @cached_property
    def costs(self) -> np.ndarray:
        """The ideal bits of every symbol, (n,), float64."""
        return np.log2(self.total) - np.log2(np.diff(self.bounds))

    def _part(self, symbol: int) -> tuple[int, int]:
        assert 0 <= symbol < len(self), f"symbol {symbol} is outside the alphabet of {len(self)}"
        start = int(self.bounds[symbol])
        return start, int(self.bounds[symbol + 1]) - start


class SymbolTables:
    """Integer probabilities of several symbols, each with a table of its own.

    The tables are those of `SymbolTable.from_counts`, but only the bounds that are asked for are computed: the division
    of all of them would take most of the time.
    """

    def __init__(self, ends: np.ndarray):
        """Take the cumulative counts of each symbol's table, (n, size) int64, not above 2**38 and not all zero."""
        assert ends.ndim == 2 and (ends[:, -1] > 0).all() and (ends[:, -1] <= 1 << 38).all()
        self._ends = ends
        self._flat = np.ascontiguousarray(ends).reshape(-1).data  # its items are Python's integers

    def encode(self, symbols: Sequence[int], coder: ArithmeticEncoder) -> None:
        """Code one symbol by each table."""
        chosen = np.asarray(symbols)
        starts = self._starts(chosen)
        frequencies = self._starts(chosen + 1) - starts
        for start, frequency in zip(starts.tolist(), frequencies.tolist(), strict=True):
            coder.encode(start, frequency, TOTAL)

    def decode(self, coder: ArithmeticDecoder) -> tuple[list[int], int]:
        """Read a symbol by each table; return them and how many the message holds, the others are the likeliest."""
        symbols: list[int] = []
        for row in range(len(self._ends)) if not coder.ended else ():
            symbol, start, end = self.owner(row, coder.target(TOTAL))
            coder.consume(start, end - start, TOTAL)
            if coder.ended:
                break
            symbols.append(symbol)
        held = len(symbols)
        if held == len(self._ends):
            return symbols, held
        return symbols + np.diff(SymbolTables(self._ends[held:]).bounds).argmax(1).tolist(), held

    def owner(self, row: int, target: int) -> tuple[int, int, int]:
        """Return the symbol that owns an integer in one of the tables, and its two bounds."""
        ends, size = self._flat, self._ends.shape[1]
        first, rest = row * size, TOTAL - size
        total = ends[first + size - 1]

        def bound(symbol: int) -> int:
            return (ends[first + symbol - 1] * rest // total if symbol else 0) + symbol

        # A bound is the share of the counts before it, rounded down, and one for each symbol before it. The first alone
        # is less, so no symbol after this one owns the target.
        symbol = min(bisect_right(ends, (target + 1) * total // rest, first, first + size) - first, size - 1)
        start = bound(symbol)
        if start > target:
            # With as many for each symbol as there are before this one it is more, so none before that one does.
            least = bisect_right(ends, (target - symbol) * total // rest, first, first + symbol) - first
            symbol = bisect_right(range(symbol), target, lo=least, key=bound) - 1
            start = bound(symbol)
        return symbol, start, bound(symbol + 1)

    @property
    def costs(self) -> np.ndarray:
        """The ideal bits of every symbol, (n, size), float64."""
        return np.log2(TOTAL) - np.log2(np.diff(self.bounds))

    @property
    def bounds(self) -> np.ndarray:
        """The bounds of all tables, (n, size + 1), each row as those of a `SymbolTable`."""
        size = self._ends.shape[1]
        inner = self._ends * (TOTAL - size) // self._ends[:, -1:] + np.arange(1, size + 1)
        return np.pad(inner, ((0, 0), (1, 0)))

    def _starts(self, symbols: np.ndarray) -> np.ndarray:
        """Return the bound below a symbol of each table, (n,)."""
        before = np.where(symbols > 0, self._ends[np.arange(len(symbols)), symbols - 1], 0)
        return before * (TOTAL - self._ends.shape[1]) // self._ends[:, -1] + symbols
