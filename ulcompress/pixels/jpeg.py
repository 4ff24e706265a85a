"""The segments in the head of JPEG (ITU-T T.81, annex B): those that are needed to decode it, and the metadata."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any, BinaryIO, NamedTuple

SIGNATURE = b"\xff\xd8\xff"
START_OF_SCAN, APP0, APP1, APP2, APP14, COMMENT = 0xDA, 0xE0, 0xE1, 0xE2, 0xEE, 0xFE
NEEDED = {APP0: (b"JFIF\0", 14), APP14: (b"Adobe", 12)}
"""Application data that state the colour transform: their prefixes and their least lengths."""
EXIF, XMP, PROFILE = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"


class _Segment(NamedTuple):
    marker: int
    data: bytes
    whole: bytes
    """The segment as in the file, with its marker and length."""

    @property
    def makes_pixels(self) -> bool:
        prefix, length = NEEDED.get(self.marker, (None, 0))
        if prefix is not None:
            return self.data.startswith(prefix) and len(self.data) >= length
        return not (APP0 <= self.marker <= 0xEF or self.marker == COMMENT)


def set_apart(file: BinaryIO) -> tuple[BytesIO, dict[str, Any]]:
    """Return a JPEG without application data, and its Exif data, XMP and ICC profile."""
    rest, exif, xmp, pieces = BytesIO(), b"", b"", []
    rest.write(file.read(2))
    for segment in _segments(file):
        if segment.makes_pixels:
            rest.write(segment.whole)
        elif segment.marker == APP1 and segment.data.startswith(EXIF):
            exif = exif + segment.data[len(EXIF) :] if exif else segment.data
        elif segment.marker == APP1 and segment.data.startswith(XMP):
            xmp = segment.data[len(XMP) :]
        elif segment.marker == APP2 and segment.data.startswith(PROFILE):
            pieces.append(segment.data[len(PROFILE) :])
    rest.write(file.read())
    rest.seek(0)
    info = {"exif": exif, "xmp": xmp, "icc_profile": _joined(pieces)}
    return rest, {name: data for name, data in info.items() if data}


def _segments(file: BinaryIO) -> Iterator[_Segment]:
    """Read the segments up to the first scan, or to the first bytes that are no segment."""
    while True:
        start = file.tell()
        marker = file.read(2)
        while marker == b"\xff\xff":  # any number of fill bytes may precede a marker
            marker = b"\xff" + file.read(1)
        if len(marker) < 2 or marker[0] != 0xFF or marker[1] == START_OF_SCAN or not 0xC0 <= marker[1] <= COMMENT:
            file.seek(start)
            return
        length = file.read(2)
        data = file.read(max(int.from_bytes(length, "big") - 2, 0))
        yield _Segment(marker[1], data, marker + length + data)


def _joined(pieces: list[bytes]) -> bytes:
    """Return the profile of pieces, which begin with their index and their number; `damaged` where one is missing."""
    numbers = [piece[0] for piece in sorted(pieces) if piece]
    if pieces and numbers != list(range(1, pieces[0][1] + 1 if len(pieces[0]) > 1 else 0)):
        return b"damaged"
    return b"".join(piece[2:] for piece in sorted(pieces))
