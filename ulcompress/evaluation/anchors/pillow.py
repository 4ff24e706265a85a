"""The formats that Pillow writes, alone or with the JPEG XL plugin."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from PIL import Image

from ulcompress.evaluation.anchors.base import Anchor
from ulcompress.functional.cores import threads

with suppress(ImportError):
    import pillow_jxl  # noqa: F401, makes JPEG XL known to Pillow


@dataclass(frozen=True)
class Format:
    """How Pillow writes a format."""

    pillow: str
    """Pillow's name of it."""
    qualities: Sequence[Any]
    """Quality settings in the order of the files' sizes, the smallest first."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the encoder for small files at an acceptable time."""
    reach: int = 0
    """As `Anchor.reach`: the most that was seen on photographs of 32 to 768 pixels."""
    threads: str | None = None
    """The option for the number of threads, where it changes no byte."""
    wheel: str = "pillow"
    """The package that has to be installed for the format."""


FORMATS = {
    # Its progressive files are larger below some 50 kB.
    "jpeg": Format("JPEG", range(1, 96), {"optimize": True}),
    "webp": Format("WEBP", range(0, 101), {"method": 6}, reach=1),
    # Tiles serve parallel decoding and cost a percent. The file depends on whether there is one thread or are several.
    "avif": Format("AVIF", range(0, 101), {"speed": 4, "autotiling": False, "max_threads": 2}),
    # Ratios of raw to compressed size, in steps of 1 %; from 1000 on a reduced image is the better one. The bare
    # codestream is 85 bytes smaller than a JP2 file, and any comment keeps out OpenJPEG's, which is 32 bytes longer.
    "jpeg2000": Format(
        "JPEG2000",
        tuple(round(1000 / 1.01**step, 2) for step in range(690)),
        {"irreversible": True, "mct": 1, "no_jp2": True, "comment": " "},
    ),
    # Quality 100 would be lossless.
    "jxl": Format("JXL", range(0, 100), {"effort": 9}, reach=10, threads="num_threads", wheel="pillow-jxl-plugin"),
}


class PillowAnchor(Anchor):
    """JPEG, WebP, AVIF, JPEG 2000 or JPEG XL.

    JPEG, WebP and AVIF halve the resolution of colour (4:2:0), their default: at 0.008 to 0.07 bpp on photographs of
    Kodak 4:4:4 is worse by up to 0.27 dB and better by at most 0.15. JPEG 2000 has the irreversible wavelet and colour
    transform, JPEG XL its own colour space, both at full resolution. AVIF is tuned as its encoder is by default, for
    still images: tuned for SSIM it has 0.1 to 0.3 dB more there, and from 0.02 bpp a worse MS-SSIM and SSIMULACRA2. Its
    speed is 4; 2 takes three times as long for less than 0.2 dB. Its sizes fall at some qualities of images below 100
    pixels, where one budget in a thousand gets a lower quality than it could.
    """

    def __init__(self, *, name: str):
        """Take one of `FORMATS`."""
        self.name = name
        self.format = FORMATS[name]
        self.qualities = self.format.qualities
        self.reach = self.format.reach

    @property
    def identity(self) -> Mapping[str, Any]:
        """Options, and the version of what writes the format."""
        return {"options": dict(self.format.options), self.format.wheel: version(self.format.wheel)}

    def check(self) -> None:
        """Raise ValueError where the format cannot be written."""
        Image.init()
        if self.format.pillow not in Image.SAVE:
            raise ValueError(f"this Pillow cannot write {self.name}; run `pip install {self.format.wheel}`")

    def encode(self, image: Image.Image, quality: Any) -> bytes:
        """Return the file of an RGB image."""
        file = io.BytesIO()
        setting: dict[str, Any] = {"quality": quality}
        if self.name == "jpeg2000":
            setting = {"quality_layers": [quality]}
        if self.format.threads:
            setting[self.format.threads] = threads()
        image.save(file, self.format.pillow, **setting, **self.format.options)
        return file.getvalue()

    def decode(self, data: bytes) -> Image.Image:
        """Return the RGB image of a file."""
        with Image.open(io.BytesIO(data), formats=(self.format.pillow,)) as image:
            return image.convert("RGB")
