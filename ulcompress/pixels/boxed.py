"""Image files that consist of boxes (ISO/IEC 14496-12, 4.2): JPEG 2000, AVIF and JPEG XL."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any, BinaryIO

from ulcompress.pixels import jxl

JPEG_2000 = b"\0\0\0\x0cjP  \r\n\x87\n"
JPEG_XL = b"\0\0\0\x0cJXL \r\n\x87\n"
CODESTREAM = jxl.CODESTREAM
"""Signature of a JPEG XL without boxes."""
CODESTREAMS = (b"jxlc", b"jxlp")
"""The boxes of a whole codestream, and of a part of one."""
JPEG_XL_PIXELS = (b"JXL ", b"ftyp", b"jxll", *CODESTREAMS)
"""The boxes of JPEG XL that are needed to decode it."""


def jpeg_2000(file: BinaryIO) -> tuple[BytesIO, dict[str, Any]]:
    """Return the file and its ICC profile, which Pillow does not read."""
    data = file.read()
    colour = next(_contents(data, b"jp2h", b"colr"), b"")
    # A method, two numbers that do not matter, and the profile.
    return BytesIO(data), {"icc_profile": colour[3:]} if colour[:1] == b"\2" else {}


def avif(file: BinaryIO) -> tuple[BytesIO, dict[str, Any]]:
    """Return the file without its Exif data, and its code points where it has no ICC profile.

    Other boxes state its orientation, and libavif refuses images whose Exif data are damaged.
    """
    data = file.read()
    colours = list(_contents(data, b"meta", b"iprp", b"ipco", b"colr"))
    info = {}
    if colours and all(colour.startswith(b"nclx") for colour in colours):
        info["cicp"] = bytes((colours[0][5], colours[0][7])) if len(colours[0]) >= 8 else b""
    for start, end in _spans(data, b"meta"):
        data = data[:start] + data[start:end].replace(b"Exif", b"none") + data[end:]
    return BytesIO(data), info


def jpeg_xl(file: BinaryIO) -> tuple[BytesIO, dict[str, Any]]:
    """Return the file without metadata, and its size; a file from which a JPEG can be restored keeps all of them."""
    data = file.read()
    if data.startswith(CODESTREAM):
        return BytesIO(data), {"size": jxl.size(data)}
    found = list(_boxes(data, 0, len(data)))
    # Before each part of a codestream are four bytes with its number.
    parts = (data[start + 4 * (kind == b"jxlp") : end] for kind, _, start, end in found if kind in CODESTREAMS)
    codestream = next(parts, b"")
    if not any(kind == b"jbrd" for kind, *_ in found):
        data = b"".join(data[first:end] for kind, first, _, end in found if kind in JPEG_XL_PIXELS)
    return BytesIO(data), {"size": jxl.size(codestream)}


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield the type, the start, the start of the content, and the end of consecutive boxes."""
    while start + 8 <= end:
        size, head = int.from_bytes(data[start : start + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        stop = end if size == 0 else min(start + size, end)
        if stop < start + head:
            return
        yield data[start + 4 : start + 8], start, start + head, stop
        start = stop


def _spans(data: bytes, *path: bytes) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of the contents of the boxes at a path of types."""
    spans = [(0, len(data))]
    for wanted in path:
        # In a `meta` box four bytes, version and flags, precede its boxes.
        spans = [
            (content + 4 * (kind == b"meta"), end)
            for span in spans
            for kind, _, content, end in _boxes(data, *span)
            if kind == wanted
        ]
    yield from spans


def _contents(data: bytes, *path: bytes) -> Iterator[bytes]:
    return (data[start:end] for start, end in _spans(data, *path))
