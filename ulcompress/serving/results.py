"""What the page does with a file: compress a photograph and restore it, or restore a .ulc file."""

from __future__ import annotations

import io
import math
from base64 import b64encode
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ulcompress.codec import Codec
from ulcompress.coding.bitstream import parse
from ulcompress.evaluation import psnr
from ulcompress.evaluation.measuring.contestants import rounded
from ulcompress.evaluation.measuring.timing import timed
from ulcompress.images import from_pil, image_bytes, open_image
from ulcompress.records import Sampling
from ulcompress.serving.jobs import ServedJob


@dataclass(frozen=True)
class Result:
    """An image, its file, and what was measured."""

    file: bytes
    """The .ulc file."""
    restored: Tensor
    """RGB in [0, 1], (3, H, W)."""
    streams: dict[str, float]
    """Bytes of the header and, ideally, of each stream."""
    decode_seconds: float
    """From bytes to pixels."""
    original: Tensor | None = None
    """As `restored`; this and the following are None where only the file is known."""
    encode_seconds: float | None = None
    """From pixels to bytes."""
    remarks: tuple[str, ...] = ()
    """What of the caption was left out."""
    psnr: float | None = None
    """PSNR in dB of the restored image rounded to 8 bits; infinite for equal images."""

    def as_json(self) -> dict[str, Any]:
        """Return numbers, and the files in base64, images as PNG; an infinite PSNR is None."""
        height, width = self.restored.shape[1:]
        numbers = {
            "width": width,
            "height": height,
            "bytes": len(self.file),
            "bpp": 8 * len(self.file) / (height * width),
            "psnr": self.psnr if self.psnr is not None and math.isfinite(self.psnr) else None,
            "encode_seconds": self.encode_seconds,
            "decode_seconds": self.decode_seconds,
        }
        original = None if self.original is None else _base64(image_bytes(self.original, ".png"))
        files = {"file": _base64(self.file), "restored": _base64(image_bytes(self.restored, ".png"))}
        return numbers | files | {"original": original, "streams": self.streams, "remarks": self.remarks}


def compress(
    codec: Codec, data: bytes, *, sampling: Sampling, max_pixels: int, job: ServedJob, **coding: Any
) -> Result:
    """Compress the bytes of an image file, and restore the image from the compressed file.

    Args:
        codec: The codec.
        data: An image file of any format that `open_image` reads.
        sampling: How the image is restored.
        max_pixels: Most pixels of the image.
        job: Is told of the progress, and ends the work.
        coding: Options of `Codec.compress`.

    Raises:
        ValueError: The image cannot be read or is too large, the codec refuses an option, or the time is over.
    """
    job.begin("reading the image")
    image = from_pil(open_image(io.BytesIO(data), name="the image", max_pixels=max_pixels))
    with job.watching(codec, "compressing"):
        file, seconds = timed(lambda: codec.compress(image, max_pixels=max_pixels, **coding))
    result = restore(codec, file, sampling=sampling, max_pixels=max_pixels, job=job)
    likeness = psnr(rounded(result.restored), image)
    caption = coding.get("caption")
    remarks = [conditioner.remark(caption) for conditioner in codec.conditioners.values()] if caption else []
    said = tuple(filter(None, remarks))
    return replace(result, original=image, encode_seconds=seconds, psnr=likeness, remarks=said)


def restore(codec: Codec, file: bytes, *, sampling: Sampling, max_pixels: int, job: ServedJob) -> Result:
    """Restore the image of a .ulc file; the arguments are those of `compress`.

    Raises:
        ValueError: The file is damaged, its image is too large, the codec refuses an option, or the time is over.
    """
    steps = sampling.steps if sampling.steps is not None else getattr(codec.decoder, "steps", None)
    with job.watching(codec, "restoring", steps=steps):
        restored, seconds = timed(lambda: codec.decompress(file, sampling=sampling, max_pixels=max_pixels))
        bits = codec.stream_bits(file, max_pixels=max_pixels)
    header = len(file) - len(parse(file, max_pixels=max_pixels)[1])
    streams = {"header": float(header)} | {name: count / 8 for name, count in bits.items()}
    return Result(file, restored, streams, seconds)


def _base64(data: bytes) -> str:
    return b64encode(data).decode()
