"""Signed integers, each coded by one of several tables of probabilities."""

from collections.abc import Iterable, Sequence

import numpy as np

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder, SymbolTable

_BIT = SymbolTable.uniform(2)
_LONGEST = 24
"""Binary digits of an integer that no table reaches; larger ones cannot be coded."""


class IntegerTables:
    """Codes integers up to 2**24 in size, each by one of several tables.

    Row k of `counts`, (n, 2 * reach + 2) int64, belongs to the integers from -reach to reach; its last entry is an
    escape, after which the distance beyond the reach follows in an Exp-Golomb code.
    """

    def __init__(self, counts: np.ndarray):
        self.reach = counts.shape[1] // 2 - 1
        self._tables = [SymbolTable.from_counts(row.astype(np.int64)) for row in counts]

    @property
    def costs(self) -> np.ndarray:
        """The ideal bits of every symbol, (n, 2 * reach + 2), float64; the bits after an escape are not included."""
        return np.stack([table.costs for table in self._tables])

    def write(self, values: Iterable[int], rows: Iterable[int], coder: ArithmeticEncoder) -> None:
        """Code integers, each by the table of its row."""
        for value, row in zip(values, rows, strict=True):
            if abs(value) <= self.reach:
                self._tables[row].encode(value + self.reach, coder)
            else:
                self._tables[row].encode(2 * self.reach + 1, coder)
                _BIT.encode(int(value < 0), coder)
                write_golomb(abs(value) - self.reach, coder)

    def read(self, rows: Sequence[int], coder: ArithmeticDecoder) -> list[int]:
        """Read one integer for each row."""
        return [self._read(row, coder) for row in rows]

    def _read(self, row: int, coder: ArithmeticDecoder) -> int:
        symbol = self._tables[row].decode(coder)
        if symbol <= 2 * self.reach:
            return symbol - self.reach
        sign = -1 if _BIT.decode(coder) else 1
        return sign * (self.reach + read_golomb(coder))


def write_golomb(value: int, coder: ArithmeticEncoder) -> None:
    """Code an integer from 1 to 2**25 - 1 in Exp-Golomb: its length in ones and a zero, then all digits but one."""
    length = value.bit_length() - 1
    assert 0 <= length <= _LONGEST
    for _ in range(length):
        _BIT.encode(1, coder)
    if length < _LONGEST:
        _BIT.encode(0, coder)
    for position in reversed(range(length)):
        _BIT.encode(value >> position & 1, coder)


def read_golomb(coder: ArithmeticDecoder) -> int:
    """Read what `write_golomb` wrote."""
    length = 0
    while length < _LONGEST and _BIT.decode(coder):
        length += 1
    value = 1
    for _ in range(length):
        value = value << 1 | _BIT.decode(coder)
    return value


def golomb_bits(value: int) -> int:
    """Return the bits that `write_golomb` spends."""
    length = value.bit_length() - 1
    return 2 * length + (length < _LONGEST)
