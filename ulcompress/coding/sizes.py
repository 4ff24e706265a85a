"""The size of an image in one to four bytes.

    0xxxxxxx                 entry x of `COMMON`
    10 and 2 x  7 bits       width - 1 and height - 1, sides up to 128
    110, a zero, 2 x 10 bits sides up to 1024
    111, a zero, 2 x 14 bits sides up to 16384

The shortest form is the only valid one.
"""

from __future__ import annotations

MAX_SIDE = 1 << 14
"""Largest width and height, in pixels."""

_SQUARES = (
    *(16, 32, 64, 96, 128, 160, 192, 224, 256, 288, 299, 320, 336, 384, 400, 448, 480, 500, 512, 576, 600, 640, 700),
    *(720, 750, 768, 800, 832, 896, 900, 960, 1000, 1024, 1080, 1200, 1280, 1440, 1536, 1600, 2000, 2048, 3000, 4096),
)
_LANDSCAPES = (
    *((176, 144), (320, 180), (320, 240), (352, 288), (480, 320), (500, 375), (640, 360), (640, 427), (640, 480)),
    *((720, 480), (720, 576), (768, 512), (768, 576), (800, 600), (854, 480), (960, 540), (960, 640), (1024, 576)),
    *((1024, 683), (1024, 768), (1080, 720), (1200, 800), (1200, 900), (1280, 720), (1280, 800), (1280, 853)),
    *((1280, 960), (1366, 768), (1440, 900), (1600, 900), (1600, 1200), (1920, 1080), (1920, 1200), (1920, 1280)),
    *((2040, 1356), (2048, 1365), (2048, 1536), (2560, 1440), (3840, 2160), (4000, 3000), (4032, 3024), (6000, 4000)),
)
COMMON = (
    *((side, side) for side in _SQUARES),
    *_LANDSCAPES,
    *((height, width) for width, height in _LANDSCAPES),
)
"""Width and height of at most 128 common formats; files hold their numbers, which must never change."""
_FORMS = ((0b10, 2, 7), (0b110, 3, 10), (0b111, 4, 14))
"""Of each form of other sizes: the first bits, the bytes, and the bits of a side."""


def pack_size(width: int, height: int) -> bytes:
    """Return the bytes of a size; ValueError for sides outside 1 to 16384."""
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise ValueError(f"the image is {width} x {height} pixels; sides are 1 to {MAX_SIDE}")
    if (width, height) in COMMON:
        return bytes([COMMON.index((width, height))])
    prefix, length, bits = next(form for form in _FORMS if max(width, height) <= 1 << form[2])
    start = prefix << 8 * length - prefix.bit_length()
    return (start | (width - 1) << bits | (height - 1)).to_bytes(length, "big")


def parse_size(data: bytes, position: int) -> tuple[int, int, int] | None:
    """Return width, height and the position after them; None where the bytes are no size."""
    first = data[position] if position < len(data) else 0xFF
    if first < 128:
        return (*COMMON[first], position + 1) if first < len(COMMON) else None
    _, length, bits = next(form for form in _FORMS if first >> 8 - form[0].bit_length() == form[0])
    packed = data[position : position + length]
    sides = int.from_bytes(packed, "big")
    side = (1 << bits) - 1
    width, height = 1 + (sides >> bits & side), 1 + (sides & side)
    return (width, height, position + length) if pack_size(width, height) == packed else None
