"""What the pixels of an image file mean: their depth, their colours, and what metadata says of both."""

from ulcompress.pixels.colour import to_srgb
from ulcompress.pixels.depth import to_8_bits, transparent_colour
from ulcompress.pixels.errors import ColourWarning, ImageError
from ulcompress.pixels.metadata import set_apart
from ulcompress.pixels.tiff import without_metadata

__all__ = ["ColourWarning", "ImageError", "set_apart", "to_8_bits", "to_srgb", "transparent_colour", "without_metadata"]
