"""Pixels of more than 8 bits, and signed ones: their range comes from the type and the tags of the file.

It does not depend on the values: a pixel above white becomes white, and makes no other pixel darker.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from math import isfinite
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

from ulcompress.pixels.errors import ColourWarning

BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT, SMALLEST, LARGEST = 258, 262, 339, 340, 341
"""Tags of TIFF."""
SIGNED = 2
"""Sample format of TIFF."""
ROWS = 256
"""Number of rows that are converted at a time, since the conversion takes eight times their memory."""
# libtiff returns the samples of a compressed file in the order of the machine; Pillow 13 swaps these once more.
NATIVE = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}


def to_8_bits(image: Image.Image, name: str = "image") -> Image.Image:
    """Return a deep grey image (modes I, I;16 and F) or one of signed bytes as L, or LA where a grey is transparent.

    Black and white are, in a TIFF, 0 and the largest value of its type, or for floats the smallest and the largest
    value that it states (SMinSampleValue, SMaxSampleValue), else 0 and 1; swapped where the smallest is white. In other
    images they are 0 and 1 for floats, 0 and 65535 for integers. Values beyond are clipped, NaN counts as 0. Where most
    floats are above white, a ColourWarning names the image.
    """
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    if not is_deep(image):
        return image
    _correct_byte_order(image)
    values = _values(image, tags)
    black, white = _range(image, tags)
    if image.mode == "F" and (above := np.mean(values > white)) > 0.5:
        message = f"{name}: {above:.0%} of its values are above {white:g}, which is the end of their range; divide them"
        warnings.warn(message, ColourWarning, stacklevel=2)
    grey = _scaled(values, black, white)
    if tags and tags.get(PHOTOMETRIC, 0) == 0:
        grey = 255 - grey
    key = image.info.get("transparency")
    shallow = Image.fromarray(grey)
    return _with_info(_with_alpha(shallow, values != key) if isinstance(key, int) else shallow, image)


def is_deep(image: Image.Image) -> bool:
    """Say whether `to_8_bits` would convert the image."""
    signed = image.mode == "L" and _sample_format(getattr(image, "tag_v2", {})) == SIGNED
    return signed or image.mode in ("I", "F") or image.mode.startswith("I;16")


def transparent_colour(image: ImageFile.ImageFile, file: BinaryIO) -> Image.Image:
    """Return a PNG of 16-bit RGB with one transparent colour as RGBA; other images are not changed.

    Pillow keeps the upper byte of each sample, so the file is read a second time for the lower bytes.
    """
    key = image.info.get("transparency")
    if image.format != "PNG" or key is None or not image.tile or image.tile[0].args != "RGB;16B":
        return image
    upper = np.asarray(image).astype(np.uint16)
    file.seek(0)
    with Image.open(file, formats=("PNG",)) as lower:
        lower.tile = [lower.tile[0]._replace(args="RGB;16L")]
        samples = upper << 8 | np.asarray(lower)
    return _with_info(_with_alpha(image, (samples != np.array(key, dtype=np.uint16)).any(axis=-1)), image)


def _with_alpha(image: Image.Image, opaque: np.ndarray) -> Image.Image:
    return Image.merge(image.mode + "A", [*image.split(), Image.fromarray(opaque.astype(np.uint8) * 255)])


def _with_info(image: Image.Image, source: Image.Image) -> Image.Image:
    image.info = {name: value for name, value in source.info.items() if name != "transparency"}
    return image


def _correct_byte_order(image: Image.Image) -> None:
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.use_load_libtiff and image.tile:
        assert isinstance(image.tile[0].args, tuple)
        rawmode, *others = image.tile[0].args
        image.tile = [image.tile[0]._replace(args=(NATIVE.get(rawmode, rawmode), *others))]


def _values(image: Image.Image, tags: Mapping[int, Any]) -> np.ndarray:
    """Return the pixels, (H, W), in the type that they have in the file."""
    values = np.asarray(image)
    if image.mode == "L":
        return values.view(np.int8)
    if image.mode == "I" and tags and _sample_format(tags) != SIGNED:
        return values.view(np.uint32)  # Pillow has no mode for it
    return values


def _range(image: Image.Image, tags: Mapping[int, Any]) -> tuple[float, float]:
    """Return the values of black and white, or of white and black where the smallest is white."""
    if not tags:
        return 0, 1 if image.mode == "F" else 2**16 - 1
    if image.mode == "F":
        black, white = _first(tags, SMALLEST, 0), _first(tags, LARGEST, 1)
        numbers = all(isinstance(value, (int, float)) and isfinite(value) for value in (black, white))
        return (black, white) if numbers and black < white else (0, 1)
    return 0, 2 ** (_first(tags, BITS_PER_SAMPLE, 1) - (_sample_format(tags) == SIGNED)) - 1


def _scaled(values: np.ndarray, black: float, white: float) -> np.ndarray:
    grey = np.empty(values.shape, dtype=np.uint8)
    for start in range(0, len(values), ROWS):
        rows = np.nan_to_num(values[start : start + ROWS].astype(np.float64), nan=0, posinf=white, neginf=black)
        grey[start : start + ROWS] = np.rint((rows.clip(black, white) - black) / (white - black) * 255)
    return grey


def _sample_format(tags: Mapping[int, Any]) -> int:
    return _first(tags, SAMPLE_FORMAT, 1)


def _first(tags: Mapping[int, Any], tag: int, default: Any) -> Any:
    value = tags.get(tag, default)
    return value[0] if isinstance(value, tuple) else value
