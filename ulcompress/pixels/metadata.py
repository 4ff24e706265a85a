"""Metadata, separated from pixels, so that no size or damage of them makes an image unreadable.

The colour space, the orientation and a transparent colour are kept, under the names of Pillow's `Image.info`.
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
"""Functions that separate the metadata of files, by the bytes with which these begin."""


def set_apart(file: BinaryIO) -> tuple[BinaryIO, dict[str, Any]]:
    """Return an image file without the metadata on which its reader could fail, and their entries on its pixels.

    Where the head of the file states width and height, the entry `size` has them.
    """
    start = file.read(16)
    file.seek(0)
    if start[4:8] == b"ftyp":
        return boxed.avif(file)
    for signature, reader in SIGNATURES.items():
        if start.startswith(signature):
            return reader(file)
    return file, {}
