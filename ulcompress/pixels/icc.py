"""ICC profiles of RGB spaces by their chromaticities and curves (ICC.1:2010, profile version 4)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""Exponent and coefficients of the parametric curve of IEC 61966-2-1."""
D50 = np.array([0.9642, 1.0, 0.8249])
"""White point of the profile connection space, XYZ."""
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
"""Matrix from XYZ to the cone responses in which white points are adapted."""


def matrix_profile(chromaticities: Sequence[float], curve: Sequence[float], description: str) -> bytes:
    """Return the ICC profile of an RGB space.

    Args:
        chromaticities: x and y of white, red, green and blue, in this order: eight numbers.
        curve: Curve from code values to light: one exponent, or five numbers as in `SRGB_CURVE`.
        description: Name of the profile.

    Raises:
        ValueError: The chromaticities span no colours.
    """
    light = _fixed("para", struct.pack(">HH", 3 if len(curve) == 5 else 0, 0), curve)
    colorants = _colorants(np.reshape(np.asarray(chromaticities, dtype=np.float64), (4, 2)))
    tags = {b"desc": _text(description), b"cprt": _text("No copyright"), b"wtpt": _fixed("XYZ ", b"", D50)}
    tags |= {b"rTRC": light, b"gTRC": light, b"bTRC": light}
    tags |= {
        letter + b"XYZ": _fixed("XYZ ", b"", xyz) for letter, xyz in zip((b"r", b"g", b"b"), colorants.T, strict=True)
    }
    return _profile(tags)


def _colorants(xy: np.ndarray) -> np.ndarray:
    """Return the XYZ of red, green and blue at full intensity as columns, with white adapted to D50."""
    if not (np.isfinite(xy).all() and (xy[:, 1] > 0).all()):
        raise ValueError("its chromaticities are no colours")
    white, *primaries = (np.array([x, y, 1 - x - y]) / y for x, y in xy)
    matrix = np.stack(primaries, axis=1)
    matrix = matrix * np.linalg.solve(matrix, white)
    adaptation = np.linalg.inv(BRADFORD) @ np.diag(BRADFORD @ D50 / (BRADFORD @ white)) @ BRADFORD
    return adaptation @ matrix


def _fixed(kind: str, head: bytes, numbers: Sequence[float] | np.ndarray) -> bytes:
    """Return a tag of fixed-point numbers with 16 fractional bits."""
    integers = [round(float(number) * 65536) for number in numbers]
    return kind.encode() + bytes(4) + head + struct.pack(f">{len(integers)}i", *integers)


def _text(text: str) -> bytes:
    """Return a tag of text in one language."""
    encoded = text.encode("utf-16-be")
    return b"mluc" + bytes(4) + struct.pack(">II4sII", 1, 12, b"enUS", len(encoded), 28) + encoded


def _profile(tags: dict[bytes, bytes]) -> bytes:
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, tag in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(tag))
        body += tag + bytes(-len(tag) % 4)
    header = struct.pack(">I4sI4s4s4s", start + len(body), bytes(4), 0x04300000, b"mntr", b"RGB ", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28)
    header += struct.pack(">3i", *(round(value * 65536) for value in D50))
    return header.ljust(128, b"\0") + table + body
