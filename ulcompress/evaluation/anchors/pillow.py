"""The formats that Pillow writes, alone or with the JPEG XL plugin."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ulcompress.evaluation.anchors.base import Anchor


@dataclass(frozen=True)
class Format:
    """How Pillow writes a format."""

    pillow: str
    """Pillow's name of it."""
    qualities: Sequence[Any]
    """From the one of the smallest files to that of the largest."""
    options: Mapping[str, Any]
    """What makes small files in bearable time."""
    wheel: str = "pillow"
    """What has to be installed for it."""


FORMATS = {
    "jpeg": Format("JPEG", range(1, 96), {"optimize": True}),
    "webp": Format("WEBP", range(0, 101), {"method": 6}),
    "avif": Format("AVIF", range(0, 101), {"speed": 4}),
    # Ratios of raw to compressed size, in steps of 3 %.
    "jpeg2000": Format("JPEG2000", tuple(round(4000 / 1.03**step, 1) for step in range(236)), {"irreversible": True}),
    # The plugin takes a quality of 100 for lossless, in settings that its encoder refuses.
    "jxl": Format("JXL", range(0, 100), {"effort": 7, "lossless_jpeg": False}, wheel="pillow-jxl-plugin"),
}


class PillowAnchor(Anchor):
    """JPEG, WebP, AVIF, JPEG 2000 or JPEG XL, with the chroma subsampling that is their default."""

    def __init__(self, *, name: str):
        """Take one of `FORMATS`."""
        self.name = name
        self.format = FORMATS[name]
        self.qualities = self.format.qualities
        if name == "jxl":
            with suppress(ImportError):  # `check` tells
                import pillow_jxl  # noqa: F401, registers itself

    def check(self) -> None:
        """Raise ValueError where the format cannot be written."""
        Image.init()
        if self.format.pillow not in Image.SAVE:
            raise ValueError(f"this Pillow cannot write {self.name}; run `pip install {self.format.wheel}`")

    def encode(self, image: Image.Image, quality: Any) -> bytes:
        """Return the file of an RGB image."""
        file = io.BytesIO()
        setting = {"quality_mode": "rates", "quality_layers": [quality]} if self.name == "jpeg2000" else {}
        image.save(file, self.format.pillow, **(setting or {"quality": quality}), **self._options(image))
        return file.getvalue()

    def decode(self, data: bytes) -> Image.Image:
        """Return the RGB image of a file."""
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGB")

    def _options(self, image: Image.Image) -> Mapping[str, Any]:
        if self.name != "jpeg2000":
            return self.format.options
        # The wavelet has no more levels than halvings that leave a pixel.
        return {**self.format.options, "num_resolutions": min(6, min(image.size).bit_length())}
