"""The chunks of PNG (its specification, third edition, section 11): those that are needed to decode it, and others."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any, BinaryIO, NamedTuple

from ulcompress.pixels.colour import MAX_PROFILE

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
ANCILLARY = (b"tRNS", b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"eXIf", *TEXTS)
"""The ancillary chunks that can determine how an image is shown."""
MAX_ANCILLARY, MAX_TEXT = MAX_PROFILE, 1 << 20
"""Bytes of the largest ancillary chunk that is read, and the most bytes that are read of a text."""
XMP, RAW_EXIF = b"XML:com.adobe.xmp", b"Raw profile type exif"
"""Keys of the texts that can state the orientation."""


class _Chunk(NamedTuple):
    kind: bytes
    data: bytes
    whole: bytes
    """The chunk as in the file, with its length, kind and check."""

    @property
    def critical(self) -> bool:
        return self.kind[:1].isupper()

    @property
    def intact(self) -> bool:
        return zlib.crc32(self.whole[4:-4]).to_bytes(4, "big") == self.whole[-4:]

    @property
    def name(self) -> bytes:
        """The kind, or the key of a text."""
        return self.data.partition(b"\0")[0] if self.kind in TEXTS else self.kind

    @property
    def content(self) -> bytes:
        """Its value, without names and uncompressed; empty where the compressed data are damaged."""
        if self.kind not in (*TEXTS, b"iCCP"):
            return self.data
        content = self.data.partition(b"\0")[2]
        if self.kind == b"tEXt":
            return content[:MAX_TEXT]
        if self.kind == b"iTXt":
            text = content[2:].split(b"\0", 2)[-1]
            return _inflated(text, MAX_TEXT) if content[:1] == b"\1" else text[:MAX_TEXT]
        return _inflated(content[1:], MAX_PROFILE + 1 if self.kind == b"iCCP" else MAX_TEXT)


def set_apart(file: BinaryIO) -> tuple[BytesIO, dict[str, Any]]:
    """Return a PNG of the critical chunks, and the entries of intact ancillary ones."""
    critical, ancillary, header = BytesIO(), {}, b""
    critical.write(file.read(len(SIGNATURE)))
    for chunk in _chunks(file):
        header = header or chunk.data
        if chunk.critical or (chunk.kind == b"tRNS" and header[9:10] == b"\3" and chunk.intact):  # of a palette
            critical.write(chunk.whole)
        elif chunk.name in (*ANCILLARY, XMP, RAW_EXIF) and chunk.name not in ancillary and chunk.intact:
            ancillary[chunk.name] = chunk.content
    critical.seek(0)
    return critical, _info(ancillary, header)


def _chunks(file: BinaryIO) -> Iterator[_Chunk]:
    """Read the chunks up to the last one or the end of the file, without unneeded or too large ancillary ones."""
    kind = b""
    while kind != b"IEND" and (head := file.read(8)):
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind[:1].isupper() or (kind in ANCILLARY and length <= MAX_ANCILLARY):
            data, check = file.read(length), file.read(4)
            yield _Chunk(kind, data, head + data + check)
        else:
            file.seek(length + 4, 1)


def _info(ancillary: dict[bytes, bytes], header: bytes) -> dict[str, Any]:
    info: dict[str, Any] = {"size": struct.unpack(">II", header[:8])} if len(header) == 13 else {}
    if len(ancillary.get(b"tRNS", b"")) == {0: 2, 2: 6}.get(header[9] if len(header) == 13 else -1):
        info["transparency"] = _transparency(ancillary[b"tRNS"], header[8])
    if len(ancillary.get(b"cICP", b"")) == 4:
        info["cicp"] = ancillary[b"cICP"]
    if b"iCCP" in ancillary:
        info["icc_profile"] = ancillary[b"iCCP"] or b"damaged"
    if b"sRGB" in ancillary:
        info["srgb"] = ancillary[b"sRGB"]
    if len(ancillary.get(b"gAMA", b"")) == 4:
        info["gamma"] = int.from_bytes(ancillary[b"gAMA"], "big") / 100000
    if len(ancillary.get(b"cHRM", b"")) == 32:
        info["chromaticity"] = tuple(value / 100000 for value in struct.unpack(">8I", ancillary[b"cHRM"]))
    if b"eXIf" in ancillary:
        info["exif"] = b"Exif\0\0" + ancillary[b"eXIf"]
    if RAW_EXIF in ancillary:
        info[RAW_EXIF.decode()] = ancillary[RAW_EXIF].decode("latin-1")
    if XMP in ancillary:
        info["xmp"] = ancillary[XMP]
    return info


def _transparency(data: bytes, depth: int) -> int | tuple[int, ...]:
    """Return the transparent grey or colour in the range that the pixels have in Pillow."""
    largest = 2**depth - 1
    scale = 255 // largest if 0 < depth < 8 else 1
    values = tuple((value & largest) * scale for value in struct.unpack(f">{len(data) // 2}H", data))
    return values[0] if len(data) == 2 else values


def _inflated(data: bytes, most: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, most)
    except zlib.error:
        return b""
