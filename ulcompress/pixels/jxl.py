"""The size in the head of a JPEG XL codestream (ISO/IEC 18181-1, SizeHeader); its reader returns it after decoding."""

from __future__ import annotations

CODESTREAM = b"\xff\x0a"
"""Signature of a codestream."""
RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
"""Ratios of width to height, by their codes."""


def size(codestream: bytes) -> tuple[int, int]:
    """Return width and height; bits after the end of the data count as zeros."""
    bits = _Bits(codestream[len(CODESTREAM) : len(CODESTREAM) + 16])
    small = bits.read(1)
    height = _side(bits, small)
    ratio = bits.read(3)
    if ratio:
        numerator, denominator = RATIOS[ratio]
        return height * numerator // denominator, height
    return _side(bits, small), height


def _side(bits: _Bits, small: int) -> int:
    if small:
        return 8 * (bits.read(5) + 1)
    return bits.read((9, 13, 18, 30)[bits.read(2)]) + 1


class _Bits:
    """A reader of numbers of few bits, the least significant first."""

    def __init__(self, data: bytes):
        self._left = int.from_bytes(data, "little")

    def read(self, count: int) -> int:
        value = self._left & ((1 << count) - 1)
        self._left >>= count
        return value
