"""The .ulc file: the only place that turns a Code into bytes and back.

    byte 0      0xB2, or 0xBA where the payload is the beginning of a longer one
    3 bytes     fingerprint of the codec
    1-4 bytes   width and height: one byte for common formats (`coding.sizes`)
    2 bytes     CRC-16 of everything else
    the rest    payload: all streams in one arithmetic code

So a file is 7 bytes and its payload at 768 x 512. Without header only check and payload are stored, 2 bytes more than
the payload; the check still covers the header, which the channel then implies.

A whole payload is canonical: it is refused unless it is the one that is written for its symbols, so nothing can be
appended to a file. A payload that was cut holds the symbols that its bytes determine, and the decoder infers the
others; any length of it is an image, so a file can have any size.

Files of the first format are read as well. They begin with 0xB1, have a size of 2 to 4 bytes (width - 1 and height - 1,
each in 7 bits a byte, lowest first, 0x80 where another follows), are never cut, have the symbols of maps row by row,
and need not be canonical.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder, BitstreamError
from ulcompress.coding.sizes import MAX_SIDE, pack_size, parse_size
from ulcompress.functional.division import ceil_div
from ulcompress.functional.limits import MAX_PIXELS
from ulcompress.records import Code

if TYPE_CHECKING:  # so that a file can be inspected without torch
    from ulcompress.conditioning.base import Conditioner
    from ulcompress.quantizers.base import Quantizer

VERSION = 2
"""Version of the format, 1..7."""
_MAGIC = 0xB0
_CUT = 0x08
_CHECK = 2


class Field(NamedTuple):
    """Some bytes of a file with one purpose."""

    name: str
    """What they are."""
    content: str
    """What they say."""
    start: int
    """The first byte, counted from 0."""
    size: int
    """The number of bytes."""


@dataclass(frozen=True)
class Header:
    """The header of a file, before the payload."""

    version: int
    """Version of the format."""
    fingerprint: bytes
    """Fingerprint of the codec that wrote the file, 3 bytes."""
    width: int
    """Width of the image, in pixels."""
    height: int
    """Height of the image, in pixels."""
    cut: bool = False
    """Whether the payload is the beginning of a longer one."""

    def grid(self, stride: int) -> tuple[int, int]:
        """Return rows and columns of a grid with one position every `stride` pixels, rounded up."""
        return ceil_div(self.height, stride), ceil_div(self.width, stride)

    def fields(self) -> list[tuple[str, bytes, str]]:
        """Return name, bytes and meaning of each part in the order of the file; ValueError where one cannot be."""
        if len(self.fingerprint) != 3:
            raise ValueError(f"the fingerprint has {len(self.fingerprint)} bytes; give 3")
        size = pack_size(self.width, self.height)
        if self.version == 1:
            size = _pack_side(self.width) + _pack_side(self.height)
        first = bytes([_MAGIC | self.version | _CUT * self.cut])
        return [
            ("format", first, f"version {self.version}" + ", cut to its size" * self.cut),
            ("codec", self.fingerprint, self.fingerprint.hex()),
            ("size", size, f"{self.width} x {self.height}"),
        ]

    def pack(self) -> bytes:
        """Return the bytes before the check; ValueError as for `fields`."""
        return b"".join(data for _, data, _ in self.fields())


def write(
    code: Code,
    *,
    conditioning: Mapping[str, Conditioner],
    quantizer: Quantizer,
    fingerprint: bytes,
    header: bool = True,
    max_bytes: int | None = None,
) -> bytes:
    """Return the file of one image; ValueError when a side is above 16384.

    `conditioning` is in the codec's order; `fingerprint` has 3 bytes. `header=False` leaves out what the channel then
    carries: codec and size. A file of more than `max_bytes` is cut to exactly so many.

    Raises:
        ValueError: A side is above 16384, or `max_bytes` has no room for the header.
    """
    coder = ArithmeticEncoder()
    for name, conditioner in conditioning.items():
        conditioner.write(code.sides.get(name), coder)
    quantizer.write(code.symbols, coder, **quantizer.captions(conditioning, code.sides))
    head, payload = Header(VERSION, fingerprint, code.width, code.height), coder.finish()
    room = None if max_bytes is None else payload_room(head, max_bytes, header=header)
    if room is not None and len(payload) > room:
        head, payload = replace(head, cut=True), coder.beginning(room)
    packed = head.pack()
    return (packed if header else b"") + check_of(packed, payload) + payload


def bytes_at(bpp: float, width: int, height: int) -> int:
    """Return the size of the largest file that has at most so many bits per pixel."""
    return int(bpp * width * height / 8)


def payload_room(head: Header, max_bytes: int, *, header: bool = True) -> int:
    """Return the bytes that are left for the payload; ValueError where there are none."""
    taken = _CHECK + len(head.pack()) * header
    if max_bytes < taken:
        raise ValueError(f"got max_bytes={max_bytes}; an image of this size takes at least {taken}")
    return max_bytes - taken


def parse(data: bytes, *, max_pixels: int = MAX_PIXELS, prefix: bool = False) -> tuple[Header, bytes]:
    """Return header and payload of a file, or of the beginning of one, whose check then means nothing.

    Raises:
        BitstreamError: It is no whole file of this format, or its image has more than `max_pixels`.
    """
    if not data:
        raise BitstreamError("the file is empty")
    if data[0] & 0xF0 != _MAGIC or data[0] & 0x07 == 0:
        raise BitstreamError(f"not a .ulc file: it starts with the byte 0x{data[0]:02x}")
    version, cut = data[0] & 0x07, bool(data[0] & _CUT)
    if version > VERSION or (version == 1 and cut):
        raise BitstreamError(f"the file has format version {data[0] & 0x0F}, newer than {VERSION}; update ulcompress")
    size = _parse_sides(data) if version == 1 else parse_size(data, 4)
    position = len(data) if size is None else size[2]
    check, payload = data[position : position + _CHECK], data[position + _CHECK :]
    if len(check) < _CHECK:
        raise BitstreamError(f"the file is truncated or damaged: {len(data)} bytes have no whole header")
    if not prefix and check != check_of(data[:position], payload):
        raise BitstreamError("the file is truncated or damaged: its check does not match")
    assert size is not None
    width, height, _ = size
    if width > MAX_SIDE or height > MAX_SIDE:
        raise BitstreamError(f"the file says {width} x {height} pixels; sides are 1 to {MAX_SIDE}")
    _check_pixels(width, height, max_pixels)
    return Header(version, bytes(data[1:4]), width, height, cut or prefix), bytes(payload)


def layout(data: bytes, *, max_pixels: int = MAX_PIXELS) -> list[Field]:
    """Return what each byte of a file is for; BitstreamError as for `parse`."""
    header, payload = parse(data, max_pixels=max_pixels)
    check = data[len(data) - len(payload) - _CHECK :][:_CHECK]
    parts = [*header.fields(), ("check", check, f"{check.hex()}, CRC-16 of the other bytes")]
    if payload:
        parts.append(("payload", payload, "all streams in one arithmetic code" + ", cut" * header.cut))
    ends = accumulate(len(part) for _, part, _ in parts)
    return [Field(name, text, end - len(part), len(part)) for (name, part, text), end in zip(parts, ends, strict=True)]


def read(
    data: bytes,
    *,
    conditioning: Mapping[str, Conditioner],
    quantizer: Quantizer,
    stride: int,
    fingerprint: bytes,
    size: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
    prefix: bool = False,
) -> Code:
    """Return the code of a file, which has one symbol position every `stride` pixels.

    `size`, (height, width), is for data that was written without header. `prefix` says that the data may lack any
    number of bytes at its end.

    Raises:
        BitstreamError: The file is not one of this codec, is damaged, or its image has more than `max_pixels`.
    """
    if size is None:
        header, payload = parse(data, max_pixels=max_pixels, prefix=prefix)
        if header.fingerprint != fingerprint:
            needed, this = header.fingerprint.hex(), fingerprint.hex()
            raise BitstreamError(f"the file needs the codec {needed}; this codec is {this}")
    else:
        _check_pixels(size[1], size[0], max_pixels)
        implied = Header(VERSION, fingerprint, width=size[1], height=size[0], cut=prefix)
        header, payload = _parse_without_header(data, implied, prefix=prefix)
    coder = _decoder(header, payload)
    sides = {name: conditioner.read(coder) for name, conditioner in conditioning.items()}
    symbols = quantizer.read(coder, header.grid(stride), **quantizer.captions(conditioning, sides))
    if header.version > 1 and not prefix:
        coder.check_end()
    return Code(height=header.height, width=header.width, symbols=symbols, sides=sides)


def payload_of(data: bytes, *, header: bool = True, prefix: bool = False) -> bytes:
    """Return the payload of a valid file, or the beginning of one, or of valid data without header."""
    return parse(data, max_pixels=MAX_SIDE**2, prefix=prefix)[1] if header else bytes(data[_CHECK:])


def seed_of(payload: bytes) -> int:
    """Return the seed of the decoder's noise, 0..2**64-1."""
    return int.from_bytes(blake2b(payload, digest_size=8).digest(), "big")


def stream_bits(
    data: bytes,
    *,
    conditioning: Mapping[str, Conditioner],
    quantizer: Quantizer,
    stride: int,
    max_pixels: int = MAX_PIXELS,
) -> dict[str, float]:
    """Return the ideal bits of each stream of a file, read by the parts that wrote it; the symbols are `spatial`.

    BitstreamError as for `read`.
    """
    header, payload = parse(data, max_pixels=max_pixels)
    coder, read, bits, sides = _decoder(header, payload), 0.0, {}, {}
    for name, conditioner in conditioning.items():
        sides[name] = conditioner.read(coder)
        if conditioner.sends:
            bits[name] = coder.bits - read
        read = coder.bits
    quantizer.read(coder, header.grid(stride), **quantizer.captions(conditioning, sides))
    return bits | {"spatial": coder.bits - read}


def check_of(header: bytes, payload: bytes) -> bytes:
    """Return the check that belongs to the packed header and the payload."""
    return crc_hqx(payload, crc_hqx(header, 0xFFFF)).to_bytes(_CHECK, "big")


def _decoder(header: Header, payload: bytes) -> ArithmeticDecoder:
    return ArithmeticDecoder(payload, cut=header.cut, by_rows=header.version == 1)


def _parse_without_header(data: bytes, implied: Header, *, prefix: bool) -> tuple[Header, bytes]:
    """Return the header that the check confirms, of the formats that there are, and the payload."""
    check, payload = data[:_CHECK], bytes(data[_CHECK:])
    if len(check) < _CHECK:
        raise BitstreamError(f"the data is truncated: {len(data)} bytes are less than the check")
    for header in (implied, replace(implied, cut=True), replace(implied, version=1)):
        if prefix or check == check_of(header.pack(), payload):
            return header, payload
    raise BitstreamError(
        "the data is truncated or damaged, or was written by another codec than "
        f"{implied.fingerprint.hex()} or for another size than {implied.width} x {implied.height}"
    )


def _check_pixels(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise BitstreamError(
            f"the file says {width} x {height} pixels, more than {most}; give --max-pixels to allow more"
        )


def _pack_side(side: int) -> bytes:
    low, high = (side - 1) & 0x7F, (side - 1) >> 7
    return bytes([low | 0x80, high]) if high else bytes([low])


def _parse_sides(data: bytes) -> tuple[int, int, int]:
    """Return width, height and the position after them; past the end of the data bytes count as zero."""
    width, position = _parse_side(data, 4)
    height, position = _parse_side(data, position)
    return width, height, position


def _parse_side(data: bytes, position: int) -> tuple[int, int]:
    """Return a side and the position after it; past the end of the data bytes count as zero."""
    low, high = (*data[position : position + 2], 0, 0)[:2]
    return (1 + (low & 0x7F) + (high << 7), position + 2) if low & 0x80 else (1 + low, position + 1)
