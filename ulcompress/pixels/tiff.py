"""The tags of TIFF (revision 6.0): those that are needed to decode the image, and the metadata."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import BinaryIO

ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
"""Byte orders, by the bytes with which a file begins."""
ENTRY = 12
"""Bytes of the entry of a tag: its number, its type, the number of its values, and these or their offset."""
SHORT, BYTE, UNDEFINED = 3, 1, 7
"""Types of values."""
# The tags that are needed to decode and show an image.
LAYOUT = {256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 322, 323, 324, 325, 338, 339, 340, 341}
COMPRESSION = {292, 293, 317, 347, *range(512, 522)}
COLOUR = {320, 529, 530, 531, 532}
ORIENTATION, PROFILE = 274, 34675


def without_metadata(file: BinaryIO) -> BytesIO | None:
    """Return a TIFF with only the tags that are needed to decode and show its first image; None for another file."""
    file.seek(0)
    order = ORDERS.get(file.read(4))
    if order is None:
        return None
    file.seek(0)
    data = bytearray(file.read())
    start, count = _directory(data, order)
    entries = [
        bytes(data[at : at + ENTRY]) for at in range(start + 2, min(start + 2 + ENTRY * count, len(data)), ENTRY)
    ]
    kept = b"".join(entry for entry in entries if len(entry) == ENTRY and _needed(entry, order, len(data)))
    # The four zeros say that no image follows.
    directory = struct.pack(f"{order}H", len(kept) // ENTRY) + kept + bytes(4)
    data[start : start + len(directory)] = directory
    return BytesIO(bytes(data))


def _directory(data: bytearray, order: str) -> tuple[int, int]:
    """Return the offset of the first directory and the number of its entries."""
    start = int.from_bytes(data[4:8], "little" if order == "<" else "big")
    return start, int.from_bytes(data[start : start + 2], "little" if order == "<" else "big")


def _needed(entry: bytes, order: str, length: int) -> bool:
    tag, kind, count = struct.unpack(f"{order}HHI", entry[:8])
    if tag == ORIENTATION:
        return kind == SHORT and count == 1 and 1 <= struct.unpack(f"{order}H", entry[8:10])[0] <= 8
    if tag == PROFILE:
        (offset,) = struct.unpack(f"{order}I", entry[8:])
        return kind in (BYTE, UNDEFINED) and 4 < count <= length - offset
    return tag in LAYOUT | COMPRESSION | COLOUR
