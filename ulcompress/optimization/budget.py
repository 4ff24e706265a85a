"""Choice of a code that takes a number of bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ulcompress.coding.bitstream import VERSION, Header, payload_room
from ulcompress.records import Code

if TYPE_CHECKING:
    from ulcompress.codec import Codec
    from ulcompress.conditioning import Conditioner

SIDES_SHARE = 0.25
"""Share of the payload that captions and other side information may take while symbols have to be left out."""


def fill(codec: Codec, code: Code, features: Tensor, max_bytes: int, *, header: bool = True) -> bytes:
    """Return a file of exactly `max_bytes`, or a smaller one that holds the whole code.

    Side information is shortened, at a word where it is a caption, to a quarter of the payload, or as far as all
    symbols fit. Of the quantiser's ways to fill the rest, that is taken whose features come nearest to the image's.

    Args:
        codec: The codec.
        code: The code of the image at the highest rate.
        features: The quantiser's input, (1, C, h, w).
        max_bytes: The budget.
        header: As for `Codec.compress`.

    Raises:
        ValueError: The budget has no room for the header, or the codec's symbols cannot be cut.
    """
    head = Header(VERSION, codec.fingerprint, code.width, code.height)
    room = payload_room(head, max_bytes, header=header)
    whole = codec.write(code, header=header)
    if len(whole) <= max_bytes:
        return whole
    if not codec.quantizer.divisible:
        name = type(codec.quantizer).__name__
        raise ValueError(f"the file takes {len(whole)} bytes, more than {max_bytes}, and {name} cannot send less")

    def too_long(symbols: Any, sides: Mapping[str, Any]) -> bool:
        return len(codec.write(replace(code, symbols=symbols, sides=dict(sides)), header=header)) > max_bytes

    forms = list(_forms(codec.conditioners, code.sides))
    allowed = 8 * SIDES_SHARE * room
    longest = next(n for n, sides in enumerate(forms) if n == len(forms) - 1 or _bits(codec, sides) <= allowed)
    sides = next(form for form in reversed(forms[: longest + 1]) if form is forms[0] or too_long(code.symbols, form))
    left = 8 * room - _bits(codec, sides)
    captions = codec.quantizer.captions(codec.conditioners, sides)
    ways = codec.quantizer.filling(features, left, lambda symbols: too_long(symbols, sides), **captions)
    files = [
        codec.write(replace(code, symbols=symbols, sides=sides), header=header, max_bytes=max_bytes) for symbols in ways
    ]
    size = None if header else (code.height, code.width)
    return min(files, key=lambda data: _error(codec, codec.read(data, size=size), features))


def _forms(conditioners: Mapping[str, Conditioner], sides: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield side information, the whole first, then ever shorter, the last conditioner's first; in the end nothing."""
    yield sides
    for name, conditioner in reversed(list(conditioners.items())):
        for side in conditioner.shortenings(sides[name]):
            sides = {**sides, name: side}
            yield sides


def _bits(codec: Codec, sides: Mapping[str, Any]) -> float:
    bits = (conditioner.bits(sides[name]) for name, conditioner in codec.conditioners.items())
    return sum(float(cost) for cost in bits if cost is not None)


def _error(codec: Codec, code: Code, features: Tensor) -> float:
    """Return the mean squared distance of a code's features from the image's."""
    return float((codec.quantizer.dequantize(code.symbols.to(features.device)) - features).square().mean())
