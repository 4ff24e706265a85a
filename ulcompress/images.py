"""Image files to and from tensors; no other module depends on the formats of image files."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from ulcompress.files import write_whole
from ulcompress.functional.folders import find_files
from ulcompress.functional.limits import MAX_PIXELS
from ulcompress.pixels import (
    ColourWarning,
    ImageError,
    set_apart,
    to_8_bits,
    to_srgb,
    transparent_colour,
    without_metadata,
)

with suppress(ImportError):
    import pillow_jxl  # noqa: F401, makes JPEG XL known to Pillow

__all__ = [
    "FORMATS",
    "ColourWarning",
    "ImageError",
    "find_images",
    "from_pil",
    "image_bytes",
    "image_size",
    "image_suffixes",
    "open_image",
    "read_image",
    "readable_formats",
    "to_pil",
    "to_rgb",
    "write_image",
]

FORMATS = (
    *("PNG", "JPEG", "WEBP", "AVIF", "JXL", "JPEG2000", "TIFF", "GIF", "BMP", "DIB", "PPM", "QOI", "PSD"),
    *("SGI", "PCX", "TGA"),  # the last has no signature
)
"""The formats that are read, by their names in Pillow. Left out are those for which it starts another program (EPS),
opens embedded files of any format (IPTC, icons), unpacks without a limit (FITS), or has no decoder itself."""
LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "JXL": {"lossless": True}}
LOSSLESS |= {"JPEG2000": {}, "TIFF": {}, "BMP": {}, "DIB": {}, "PPM": {}, "SGI": {}, "PCX": {}, "TGA": {}}
"""The formats that are written without loss, and Pillow's options for that."""
LOSSY = ("JPEG", "WEBP", "AVIF", "JXL")
"""The formats that are written with a quality."""
LARGER = "if you trust it, allow more (max_pixels), or make it smaller"
_pillow_limit = Lock()


def read_image(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Read an image file as RGB in [0, 1], float32, (3, H, W); raises ImageError."""
    return from_pil(open_image(path, max_pixels=max_pixels))


def open_image(
    file: str | os.PathLike[str] | BinaryIO,
    *,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    least_side: int | None = None,
) -> Image.Image:
    """Decode all of an image file as 8-bit RGB, as `to_rgb` does.

    Args:
        file: A path, or a file that is open for reading; it is read from its beginning.
        name: Name of the file in errors and warnings; None takes the path.
        max_pixels: The most pixels that the image may have; a larger one is not decoded.
        least_side: Where both sides of a JPEG are at least two, four or eight times as long, it is decoded at a half, a
            quarter or an eighth of its size, from fewer coefficients of its transform, which takes a part of the time.
            Other formats have no such decoder. None decodes at full size.

    Raises:
        ImageError: The file cannot be read, or its image has too many pixels or a high dynamic range.
    """
    label = name or (os.fspath(file) if isinstance(file, (str, os.PathLike)) else "image")
    try:
        if isinstance(file, (str, os.PathLike)):
            with open(file, "rb") as opened:
                return _decoded(opened, str(label), max_pixels, least_side)
        return _decoded(file, str(label), max_pixels, least_side)
    except FileNotFoundError as error:
        raise ImageError(f"{label}: no such file; check the path") from error
    except (IsADirectoryError, PermissionError) as error:
        raise ImageError(f"{label}: {error.strerror}; give a readable image file") from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"{label}: not an image of a known format; convert it to PNG, JPEG or WebP") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{label}: more pixels than the limit of {max_pixels}; {LARGER}") from error
    except (ImageError, ColourWarning, MemoryError):
        raise
    except Exception as error:  # on damaged files decoders raise anything: OSError, SyntaxError, struct.error...
        reason = " ".join(str(error).split())
        raise ImageError(f"{label}: truncated or damaged ({reason}); get the file again") from error


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return width and height from the head of an image file, before any rotation; raises Pillow's exceptions."""
    with open(path, "rb") as file:
        pixels, info = set_apart(file)
        if size := info.get("size"):
            return size
        with Image.open(pixels, formats=readable_formats()) as image:
            return image.size


def to_rgb(image: Image.Image, name: str = "image") -> Image.Image:
    """Convert an image of any mode to 8-bit RGB as a viewer would show it on a white page.

    Colours are converted to sRGB from the image's colour space (`pixels.to_srgb`), the EXIF orientation is applied,
    alpha is composited on white. Deep pixels are scaled by the range of their type, not by their values
    (`pixels.to_8_bits`). Of an animation the first frame is taken. `name` is for errors and warnings.
    """
    converted = _to_rgb(image, name)
    return _without_info(image.copy() if converted is image else converted)


def _without_info(image: Image.Image) -> Image.Image:
    """Remove the metadata, which have been applied and must not be applied again."""
    image.info = {}
    return image


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Convert an image as `to_rgb` does, but for its metadata; one in which nothing changes is returned itself."""
    source = image
    image = _upright(to_8_bits(image, name))
    if image.mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    if image.has_transparency_data:
        image = image.convert("RGBA")
        colours = to_srgb(image.convert("RGB"), source, name)
        colours.putalpha(image.getchannel("A"))
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours)
    else:
        image = to_srgb(image, source, name)
    return image if image.mode == "RGB" else image.convert("RGB")


def from_pil(image: Image.Image) -> Tensor:
    """Turn a Pillow image of any mode into RGB in [0, 1], float32, (3, H, W)."""
    pixels = np.array(to_rgb(image))
    return torch.from_numpy(pixels).permute(2, 0, 1).float().div(255).contiguous()


def to_pil(tensor: Tensor) -> Image.Image:
    """Turn an RGB tensor (3, H, W) into an 8-bit image: clamped to [0, 1], rounded to nearest."""
    if tensor.ndim != 3 or tensor.shape[0] != 3:
        raise ValueError(f"got a tensor of shape {tuple(tensor.shape)}; give one image of shape (3, H, W)")
    pixels = tensor.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy())


def write_image(tensor: Tensor, path: str | os.PathLike[str], *, quality: int | None = None) -> None:
    """Write what `image_bytes` returns in the format of the path's suffix; raises ImageError."""
    try:
        write_whole(Path(path), image_bytes(tensor, Path(path).suffix, quality=quality))
    except OSError as error:
        raise ImageError(f"{error}; give another path") from error
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def image_bytes(tensor: Tensor, suffix: str, *, quality: int | None = None) -> bytes:
    """Return the file of an RGB tensor (3, H, W) in [0, 1].

    Args:
        tensor: The image; it is clamped and rounded to 8 bits.
        suffix: Suffix of the format: `.png`, `.webp`, `.jxl`...
        quality: Quality of a lossy file, from 0 to 100; None writes a lossless one.

    Raises:
        ImageError: There is no such format, it is not lossless, or has no quality, as `quality` requires, or it cannot
            hold an image of this size.
    """
    name = Image.registered_extensions().get(suffix.lower(), "")
    options = _options(name, suffix, quality)
    file = io.BytesIO()
    try:
        to_pil(tensor).save(file, name, **options)
    except (OSError, ValueError) as error:
        raise ImageError(f"{name} cannot hold this image ({error}); use .png") from error
    return file.getvalue()


def _options(name: str, suffix: str, quality: int | None) -> dict[str, object]:
    if name not in Image.SAVE or not (name in LOSSLESS or name in LOSSY):
        raise ImageError("the suffix names no image format that can be written; use .png")
    if quality is None:
        if name not in LOSSLESS:
            raise ImageError(
                f"{suffix} is lossy; use .png, .webp or .jxl for a lossless image, or give a quality (--quality)"
            )
        return LOSSLESS[name]
    if name not in LOSSY:
        raise ImageError(f"{suffix} has no quality; leave the quality out, or use .jpg, .webp, .avif or .jxl")
    if not 0 <= quality <= 100:
        raise ImageError(f"got quality {quality}; give 0 to 100")
    return {"quality": quality}


def image_suffixes() -> set[str]:
    """Return the suffixes of the files that can be read as images, lower case and with their dot."""
    formats = readable_formats()
    return {suffix for suffix, name in Image.registered_extensions().items() if name in formats}


def readable_formats() -> tuple[str, ...]:
    """Return those of `FORMATS` that the installed Pillow can read."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def find_images(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return all paths that are files, and all images below those that are folders, as `folders.find_files` does.

    Raises ImageError for a path that is missing, and for a folder without images.
    """
    try:
        return find_files(paths, image_suffixes(), kind="image")
    except ValueError as error:
        raise ImageError(str(error)) from error


def _decoded(file: BinaryIO, name: str, max_pixels: int, least_side: int | None) -> Image.Image:
    file = file if file.seekable() else io.BytesIO(file.read())
    file.seek(0)
    pixels, info = set_apart(file)
    _check_size(info.pop("size", (1, 1)), name, max_pixels)
    try:
        return _read(pixels, info, name, max_pixels, least_side)
    except (ImageError, ColourWarning, MemoryError, Image.DecompressionBombError):
        raise
    except Exception:
        # A TIFF has its metadata among the tags of its pixels, and Pillow reads all of them.
        bare = without_metadata(pixels)
        if bare is None:
            raise
        return _read(bare, info, name, max_pixels, least_side)


def _read(pixels: BinaryIO, info: dict[str, Any], name: str, max_pixels: int, least_side: int | None) -> Image.Image:
    with _pillow_allows(max_pixels), Image.open(pixels, formats=readable_formats()) as image:
        _check_size(image.size, name, max_pixels)
        image.info |= info
        if least_side is not None:
            image.draft(None, (least_side, least_side))
        return _without_info(_to_rgb(transparent_colour(image, pixels), name))


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageError(f"{name}: {width} x {height} pixels, more than the limit of {max_pixels}; {LARGER}")


@contextmanager
def _pillow_allows(pixels: int) -> Iterator[None]:
    """Lift Pillow's limit, a variable of the whole process, where it is lower than `pixels`."""
    if Image.MAX_IMAGE_PIXELS is None or pixels <= Image.MAX_IMAGE_PIXELS:
        yield
        return
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except Exception:  # damaged EXIF data do not make the pixels unusable
        return image
