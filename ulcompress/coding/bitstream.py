"""The .ulc file: the only place that turns a Code into bytes and back.

    byte 0      0xB0 + format version
    3 bytes     fingerprint of the codec
    1-2 bytes   width - 1, and then the same for height - 1: 7 bits a byte, lowest first, 0x80 where another follows
    2 bytes     CRC-16 of everything else
    the rest    payload: all streams in one arithmetic code

Without header only check and payload are stored; the check still covers the header, which the channel then implies.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder, BitstreamError
from ulcompress.functional.division import ceil_div
from ulcompress.functional.limits import MAX_PIXELS
from ulcompress.records import Code

if TYPE_CHECKING:  # so that a file can be inspected without torch
    from ulcompress.conditioning.base import Conditioner
    from ulcompress.quantizers.base import Quantizer

VERSION = 1
"""Version of the format, 1..15."""
MAX_SIDE = 1 << 14
"""Largest width and height, in pixels."""
_MAGIC = 0xB0


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

    def grid(self, stride: int) -> tuple[int, int]:
        """Return rows and columns of a grid with one position every `stride` pixels, rounded up."""
        return ceil_div(self.height, stride), ceil_div(self.width, stride)

    def _pack(self) -> bytes:
        if len(self.fingerprint) != 3:
            raise ValueError(f"the fingerprint has {len(self.fingerprint)} bytes; give 3")
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise ValueError(f"the image is {self.width} x {self.height} pixels; sides are 1 to {MAX_SIDE}")
        return bytes([_MAGIC | self.version]) + self.fingerprint + _pack_side(self.width) + _pack_side(self.height)


def write(
    code: Code,
    *,
    conditioning: Mapping[str, Conditioner],
    quantizer: Quantizer,
    fingerprint: bytes,
    header: bool = True,
) -> bytes:
    """Return the file of one image; ValueError when a side is above 16384.

    `conditioning` is in the codec's order; `fingerprint` has 3 bytes. `header=False` leaves out at most 8 bytes that
    the channel carries instead: codec and size.
    """
    coder = ArithmeticEncoder()
    for name, conditioner in conditioning.items():
        conditioner.write(code.sides.get(name), coder)
    quantizer.write(code.symbols, coder)
    payload = coder.finish()
    head = Header(VERSION, fingerprint, code.width, code.height)._pack()
    return (head if header else b"") + _check(head, payload) + payload


def parse(data: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[Header, bytes]:
    """Return header and payload of a file.

    Raises:
        BitstreamError: It is no whole file of this format, or its image has more than `max_pixels`.
    """
    if not data:
        raise BitstreamError("the file is empty")
    if data[0] & 0xF0 != _MAGIC or data[0] == _MAGIC:
        raise BitstreamError(f"not a .ulc file: it starts with the byte 0x{data[0]:02x}")
    version = data[0] & 0x0F
    if version > VERSION:
        raise BitstreamError(f"the file has format version {version}, newer than {VERSION}; update ulcompress")
    width, position = _parse_side(data, 4)
    height, position = _parse_side(data, position)
    check, payload = data[position : position + 2], data[position + 2 :]
    if len(check) < 2:
        raise BitstreamError(f"the file is truncated: {len(data)} bytes end inside the header")
    if check != _check(data[:position], payload):
        raise BitstreamError("the file is truncated or damaged: its check does not match")
    if width > MAX_SIDE or height > MAX_SIDE:
        raise BitstreamError(f"the file says {width} x {height} pixels; sides are 1 to {MAX_SIDE}")
    _check_pixels(width, height, max_pixels)
    return Header(version, bytes(data[1:4]), width, height), bytes(payload)


def read(
    data: bytes,
    *,
    conditioning: Mapping[str, Conditioner],
    quantizer: Quantizer,
    stride: int,
    fingerprint: bytes,
    size: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Code:
    """Return the code of a file, which has one symbol position every `stride` pixels.

    `size`, (height, width), is for data that was written without header.

    Raises:
        BitstreamError: The file is not one of this codec, is damaged, or its image has more than `max_pixels`.
    """
    if size is None:
        header, payload = parse(data, max_pixels=max_pixels)
        if header.fingerprint != fingerprint:
            needed, this = header.fingerprint.hex(), fingerprint.hex()
            raise BitstreamError(f"the file needs the codec {needed}; this codec is {this}")
    else:
        _check_pixels(size[1], size[0], max_pixels)
        header = Header(VERSION, fingerprint, width=size[1], height=size[0])
        payload = _payload_without_header(data, header)
    coder = ArithmeticDecoder(payload)
    sides = {name: conditioner.read(coder) for name, conditioner in conditioning.items()}
    symbols = quantizer.read(coder, header.grid(stride))
    return Code(height=header.height, width=header.width, symbols=symbols, sides=sides)


def payload_of(data: bytes, *, header: bool = True) -> bytes:
    """Return the payload of a valid file, or of valid data without header."""
    return parse(data, max_pixels=MAX_SIDE**2)[1] if header else bytes(data[2:])


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
    coder, read, bits = ArithmeticDecoder(payload), 0.0, {}
    for name, conditioner in conditioning.items():
        conditioner.read(coder)
        if conditioner.sends:
            bits[name] = coder.bits - read
        read = coder.bits
    quantizer.read(coder, header.grid(stride))
    return bits | {"spatial": coder.bits - read}


def _payload_without_header(data: bytes, header: Header) -> bytes:
    if len(data) < 2:
        raise BitstreamError(f"the data is truncated: {len(data)} bytes are less than the check")
    if data[:2] != _check(header._pack(), data[2:]):
        raise BitstreamError(
            "the data is truncated or damaged, or was written by another codec than "
            f"{header.fingerprint.hex()} or for another size than {header.width} x {header.height}"
        )
    return bytes(data[2:])


def _check_pixels(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise BitstreamError(
            f"the file says {width} x {height} pixels, more than {most}; give --max-pixels to allow more"
        )


def _check(header: bytes, payload: bytes) -> bytes:
    return crc_hqx(payload, crc_hqx(header, 0xFFFF)).to_bytes(2, "big")


def _pack_side(side: int) -> bytes:
    low, high = (side - 1) & 0x7F, (side - 1) >> 7
    return bytes([low | 0x80, high]) if high else bytes([low])


def _parse_side(data: bytes, position: int) -> tuple[int, int]:
    """Return a side and the position after it; past the end of the data bytes count as zero."""
    low, high = (*data[position : position + 2], 0, 0)[:2]
    return (1 + (low & 0x7F) + (high << 7), position + 2) if low & 0x80 else (1 + low, position + 1)
