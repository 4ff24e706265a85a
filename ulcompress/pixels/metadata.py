"""Metadata, set apart from pixels: no limit, damage or size of it costs an image, and what matters of it is kept.

What is kept goes by the names of Pillow's `Image.info`: the colour space, the orientation, a transparent colour.
"""

from __future__ import annotations

from typing import Any, BinaryIO

from ulcompress.pixels import boxed, jpeg, png

SIGNATURES = {
    png.SIGNATURE: png.set_apart,
    jpeg.SIGNATURE: jpeg.set_apart,
    boxed.JPEG_2000: boxed.jpeg_2000,
    boxed.JPEG_XL: boxed.jpeg_xl,
    boxed.CODESTREAM: boxed.jpeg_xl,
}
"""What reads the files that begin with these bytes."""


def set_apart(file: BinaryIO) -> tuple[BinaryIO, dict[str, Any]]:
    """Return an image file without the metadata that its reader could fail on, and what that says of the pixels.

    `size` among the latter is width and height, where they are told before the file is given to its reader.
    """
    start = file.read(16)
    file.seek(0)
    if start[4:8] == b"ftyp":
        return boxed.avif(file)
    for signature, reader in SIGNATURES.items():
        if start.startswith(signature):
            return reader(file)
    return file, {}
