"""Image files to and from tensors; the only place that knows what a file of pixels can look like."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageFile, ImageOps
from torch import Tensor

from ulcompress.files import write_whole
from ulcompress.folders import find_files

# The largest value that the deep modes can mean; the first one that holds all pixels of an image is taken.
_FULL_SCALES = {"I;16": (2**16 - 1,), "I": (2**16 - 1, 2**31 - 1), "F": (1, 2**8 - 1, 2**16 - 1)}


class ImageError(ValueError):
    """An image cannot be read, found or written; one line says which one and what would do."""


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """Read an image file as RGB in [0, 1], float32, (3, H, W); raises ImageError."""
    return from_pil(open_image(path))


def open_image(file: str | os.PathLike[str] | BinaryIO, *, name: str | None = None) -> Image.Image:
    """Decode all of an image file as 8-bit RGB; `name` stands for the file in the ImageError that this may raise."""
    label = name or (file if isinstance(file, (str, os.PathLike)) else "image")
    try:
        with Image.open(file) as image:
            return to_rgb(image)
    except FileNotFoundError as error:
        raise ImageError(f"{label}: no such file; check the path") from error
    except (IsADirectoryError, PermissionError) as error:
        raise ImageError(f"{label}: {error.strerror}; give a readable image file") from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"{label}: not an image of a known format; convert it to PNG, JPEG or WebP") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        advice = "if you trust it, raise PIL.Image.MAX_IMAGE_PIXELS, or make it smaller"
        raise ImageError(f"{label}: too many pixels to be opened safely; {advice}") from error
    except MemoryError:
        raise
    except Exception as error:  # on damaged files decoders raise anything: OSError, SyntaxError, struct.error...
        raise ImageError(f"{label}: truncated or damaged ({error}); get the file again") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8-bit RGB as a viewer would show it on a white page.

    The EXIF orientation is applied, alpha is composited on white, 16-bit, 32-bit and float pixels are scaled down,
    never clipped: `I` is taken as 16-bit unless its values are larger, `F` as [0, 1], else [0, 255], else 16-bit.
    Colour profiles are not applied. Of an animation the first frame is taken.
    """
    image = _upright(image)
    if image.mode in _FULL_SCALES or image.mode.startswith("I;16"):
        return _scaled_down(image).convert("RGB")
    if image.mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
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


def write_image(tensor: Tensor, path: str | os.PathLike[str]) -> None:
    """Write an RGB tensor (3, H, W) in [0, 1]; the suffix of the path tells the format. Raises ImageError."""
    try:
        write_whole(Path(path), image_bytes(tensor, Path(path).suffix))
    except OSError as error:
        raise ImageError(f"{error}; give another path") from error
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def image_bytes(tensor: Tensor, suffix: str, *, quality: int | None = None) -> bytes:
    """Return the file of an RGB tensor (3, H, W) in [0, 1] in the format of a suffix; raises ImageError."""
    name = Image.registered_extensions().get(suffix.lower())
    if name not in Image.SAVE:
        raise ImageError("the suffix names no image format that can be written; use .png")
    file = io.BytesIO()
    to_pil(tensor).save(file, name, **({} if quality is None else {"quality": quality}))
    return file.getvalue()


def image_suffixes() -> set[str]:
    """Return the suffixes of the files that can be read as images, lower case and with their dot."""
    formats = Image.registered_extensions()  # loads all of Pillow's plugins
    return {suffix for suffix, name in formats.items() if name in Image.OPEN and _decodes_alone(name)}


def find_images(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return the given files, and of the given folders all images below them, as `folders.find_files` does.

    Raises ImageError for a path that is missing, and for a folder without images.
    """
    try:
        return find_files(paths, image_suffixes(), kind="image")
    except ValueError as error:
        raise ImageError(str(error)) from error


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF data is no reason to refuse good pixels
        return image


def _scaled_down(image: Image.Image) -> Image.Image:
    values = np.nan_to_num(np.asarray(image, dtype=np.float64)).clip(min=0)
    scales = _FULL_SCALES.get(image.mode, _FULL_SCALES["I;16"])
    full = next((scale for scale in scales if values.max() <= scale), values.max())
    return Image.fromarray(np.rint(values / full * 255).astype(np.uint8))


def _decodes_alone(name: str) -> bool:
    # Pillow recognises some formats that it leaves to another program, or cannot decode at all.
    plugin = Image.OPEN[name][0]
    is_stub = isinstance(plugin, type) and issubclass(plugin, ImageFile.StubImageFile)
    return not is_stub and name not in ("EPS", "MPEG")
