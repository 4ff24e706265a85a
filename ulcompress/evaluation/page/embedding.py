"""Images within the page itself, so that one file shows all."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from ulcompress.coding.bitstream import MAX_SIDE
from ulcompress.images import from_pil, image_bytes, open_image

QUALITY = 80
"""Of the WebP images: at 768 x 512 pixels some 30 kB each, and hardly to be told from what they show."""


def embedded(results: Mapping[str, Any], folder: Path, *, width: int) -> dict[str, Any]:
    """Return the content of `results.json` with data URLs in place of the paths of images.

    Args:
        results: As `gather` returns it.
        folder: Where the images were kept.
        width: Most pixels across; wider ones are reduced.
    """

    def inline(entry: Mapping[str, Any], key: str) -> dict[str, Any]:
        return {**entry, key: entry[key] and _data_url(folder / entry[key], width)}

    images = [inline(image, "original") for image in results["images"]]
    rows = [inline(row, "restored") for row in results["results"]]
    return {**results, "images": images, "results": rows, "embedded": {"quality": QUALITY, "width": width}}


def _data_url(path: Path, width: int) -> str:
    image = open_image(path, max_pixels=MAX_SIDE**2)
    if image.width > width:
        image = image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)
    return f"data:image/webp;base64,{base64.b64encode(image_bytes(from_pil(image), '.webp', quality=QUALITY)).decode()}"
