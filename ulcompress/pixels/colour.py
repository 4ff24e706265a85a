"""Colours: the colour space that an image file states, and the conversion from it to sRGB.

A PNG's cICP precedes its ICC profile, that sRGB, that gAMA and cHRM (PNG specification, third edition, 4.3).
Code points of cICP and of AVIF are those of ITU-T H.273.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms

from ulcompress.pixels.errors import ColourWarning, ImageError
from ulcompress.pixels.icc import SRGB_CURVE, matrix_profile

D65 = (0.3127, 0.3290)
BT709 = (*D65, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060)
PRIMARIES = {
    1: BT709,
    2: BT709,  # unspecified
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
"""White, red, green and blue of the colour primaries of H.273."""
# Still images in sRGB are often marked with the curves of cameras (1, 6, 14, 15); viewers show them as sRGB.
CURVES = dict.fromkeys((1, 2, 6, 13, 14, 15), SRGB_CURVE) | {4: (2.2,), 5: (2.8,), 8: (1.0,)}
"""Curves of the transfer characteristics of H.273, as `matrix_profile` takes them."""
HIGH_DYNAMIC_RANGE = {16: "PQ", 18: "HLG"}
"""Transfer characteristics in which white is not the brightest value."""
SRGB_GAMMA = 0.45455
"""The gAMA of a file in sRGB, for readers that do not know the curve of sRGB."""
MAX_PROFILE = 1 << 24
"""Bytes of the largest ICC profile that is read; those of printers have some 2 MiB."""
UNCHANGED = 2
"""A profile that changes no colour by more than this, of 255, counts as one of the many variants of sRGB."""


def to_srgb(image: Image.Image, source: Image.Image, name: str = "image") -> Image.Image:
    """Convert colours to sRGB from the source's colour space: relative colorimetric, with black point compensation.

    Args:
        image: 8-bit image without alpha: L, RGB, CMYK or a mode that converts to RGB.
        source: The image as Pillow opened it, with its metadata.
        name: Name of the image, for errors and warnings.

    Returns:
        The same image where it is in sRGB already or states no colour space, else RGB. A ColourWarning reports the
        conversion, and a damaged description of the colour space, which is ignored.

    Raises:
        ImageError: Its dynamic range is high (PQ or HLG), which sRGB cannot hold.
    """
    try:
        profile = _profile(source)
        conversion = profile and _conversion(image.mode, profile)
    except MemoryError:
        raise
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except Exception as error:  # lcms raises anything on damaged profiles
        reason = " ".join(str(error).split()) or type(error).__name__
        message = f"{name}: colours are taken as sRGB, as the description of its colour space is damaged ({reason})"
        warnings.warn(message, ColourWarning, stacklevel=2)
        return image
    if not conversion or conversion.transform is None:
        return image
    warnings.warn(f"colours are converted to sRGB from {conversion.description}", ColourWarning, stacklevel=2)
    pixels = image if image.mode == conversion.mode else image.convert(conversion.mode)
    converted = ImageCms.applyTransform(pixels, conversion.transform)
    assert converted is not None  # that is for transforms in place
    return converted


def _profile(source: Image.Image) -> bytes | None:
    """Return the ICC profile of an image; None where it is in sRGB or states no colour space."""
    info = source.info
    if info.get("cicp"):
        return _profile_of_code_points(*info["cicp"][:2])
    if info.get("icc_profile"):
        return info["icc_profile"]
    if "srgb" in info or not ("gamma" in info or "chromaticity" in info):
        return None
    return _profile_of_gamma(info.get("gamma", SRGB_GAMMA), info.get("chromaticity", BT709))


def _profile_of_code_points(primaries: int, transfer: int) -> bytes | None:
    if transfer in HIGH_DYNAMIC_RANGE:
        curve = HIGH_DYNAMIC_RANGE[transfer]
        raise ImageError(f"its dynamic range is high ({curve}), which sRGB cannot hold; convert it in a photo editor")
    if primaries not in PRIMARIES or transfer not in CURVES:
        raise ValueError(f"primaries {primaries} with transfer {transfer}")
    if PRIMARIES[primaries] == BT709 and CURVES[transfer] == SRGB_CURVE:
        return None
    name = f"primaries {primaries} and transfer {transfer} of H.273"
    return matrix_profile(PRIMARIES[primaries], CURVES[transfer], name)


def _profile_of_gamma(gamma: float, chromaticities: tuple[float, ...]) -> bytes:
    if not 0.01 <= gamma <= 100:
        raise ValueError(f"gamma {gamma}")
    curve = SRGB_CURVE if abs(gamma - SRGB_GAMMA) < 0.0005 else (1 / gamma,)
    return matrix_profile(chromaticities, curve, f"gamma {gamma:g} with primaries {chromaticities[2:]}")


class _Conversion(NamedTuple):
    mode: str
    """Mode of the pixels that it takes."""
    transform: ImageCms.ImageCmsTransform | None
    """Transform to sRGB; None where nothing would change."""
    description: str
    """Name of the profile, as it states it."""


def _conversion(pixels: str, profile: bytes) -> _Conversion | None:
    """Return the conversion of pixels of a mode; ValueError where the profile does not fit the mode."""
    if len(profile) > MAX_PROFILE:
        raise ValueError(f"an ICC profile of more than {MAX_PROFILE} bytes")
    space = profile[16:20]
    if pixels == "LAB" and space == b"Lab ":
        return None  # Pillow converts it
    mode = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}.get(space)
    fitting = {"RGB": mode == "RGB", "CMYK": mode == "CMYK", "L": mode in ("L", "RGB"), "1": mode in ("L", "RGB")}
    if mode is None or not fitting.get(pixels, mode == "RGB"):
        raise ValueError(f"an ICC profile of {space!r} with pixels of {pixels}")
    return _opened(profile, mode)


@lru_cache(maxsize=8)
def _opened(profile: bytes, mode: str) -> _Conversion:
    opened = ImageCms.ImageCmsProfile(BytesIO(profile))
    transform = ImageCms.buildTransform(
        opened,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        # By default lcms replaces the curve of a grey profile by 33 points, too few where it is steep.
        ImageCms.Flags.BLACKPOINTCOMPENSATION | (ImageCms.Flags.GRIDPOINTS(255) if mode == "L" else 0),
    )
    name = ImageCms.getProfileDescription(opened)
    description = "".join(letter for letter in name if letter.isprintable())
    changes = mode == "CMYK" or _most_changed(transform, mode) > UNCHANGED
    return _Conversion(mode, transform if changes else None, description[:80] or "a profile without a name")


def _most_changed(transform: ImageCms.ImageCmsTransform, mode: str) -> int:
    """Return the largest change of a colour of a lattice, of 255."""
    levels = np.arange(0, 256, 1 if mode == "L" else 15, dtype=np.uint8)
    colours = np.stack(np.meshgrid(*[levels] * len(mode), indexing="ij"), -1).reshape(1, -1, len(mode))
    shown = ImageCms.applyTransform(Image.fromarray(colours[..., 0] if mode == "L" else colours), transform)
    return int(np.abs(np.asarray(shown).astype(int) - colours).max())
