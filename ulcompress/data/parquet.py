"""Images in Parquet, as data sets on the Hugging Face hub hold them."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from typing import IO, Any

from PIL import Image

from ulcompress.data.shard import add_member
from ulcompress.images import image_suffixes

_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp")
_ROWS = 64
"""Rows that are in memory at once."""


def write_tar(content: IO[bytes], target: IO[bytes], caption_field: str | None, location: str) -> None:
    """Write the images of a Parquet file, and their captions, as members of a tar file.

    Images are in a column of `{bytes, path}`, the hub's type for images, or in a column of bytes with a usual name.
    Rows without an image are left out.

    Args:
        content: The Parquet file, which can be searched.
        target: The tar file.
        caption_field: Column with a caption, or a list of captions, a row; None for no captions.
        location: Name of the Parquet file in errors.

    Raises:
        ValueError: A column is missing, or pyarrow is.
    """
    try:
        from pyarrow.parquet import ParquetFile  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(f"{location}: Parquet needs pyarrow; pip install 'ulcompress[parquet]'") from error
    file = ParquetFile(content)
    column = _image_column(file.schema_arrow, location)
    if caption_field is not None and caption_field not in file.schema_arrow.names:
        columns = ", ".join(file.schema_arrow.names)
        raise ValueError(f"{location} has no column {caption_field!r}; its columns are {columns}")
    with tarfile.open(fileobj=target, mode="w") as tar:
        for row, image, captions in _rows(file, column, caption_field):
            add_member(tar, f"{row:08d}{_suffix(image)}", image["bytes"])
            if captions:
                add_member(tar, f"{row:08d}.txt", "\n".join(captions).encode())


def _rows(file: Any, column: str, caption_field: str | None) -> Iterator[tuple[int, dict[str, Any], list[str]]]:
    row = 0
    for batch in file.iter_batches(_ROWS, columns=[name for name in (column, caption_field) if name]):
        for values in batch.to_pylist():
            image, texts = values[column], values.get(caption_field)
            image = image if isinstance(image, dict) else {"bytes": image}
            if image.get("bytes"):
                texts = [texts] if isinstance(texts, str) else texts or []
                yield row, image, [" ".join(str(text).split()) for text in texts]
            row += 1


def _image_column(schema: Any, location: str) -> str:
    """Return the name of the first column of the hub's type for images, else of a usual one of bytes."""
    import pyarrow.types as types  # pyright: ignore[reportMissingImports]

    for field in schema:
        if types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            return field.name
    for name in _NAMES:
        if name in schema.names and types.is_binary(schema.field(name).type):
            return name
    raise ValueError(f"{location} has no column of images; its columns are {', '.join(schema.names)}")


def _suffix(image: dict[str, Any]) -> str:
    """Return the suffix by the image's path, else by its content; that of PNG for what Pillow does not know."""
    suffix = os.path.splitext(image.get("path") or "")[1].lower()
    if suffix in image_suffixes():
        return suffix
    try:
        with Image.open(io.BytesIO(image["bytes"])) as opened:
            return {"JPEG": ".jpg", "WEBP": ".webp"}.get(opened.format or "", ".png")
    except Exception:  # a broken image is left out when it is decoded
        return ".png"
