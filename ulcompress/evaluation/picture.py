"""One picture that shows an image through several codecs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ulcompress.evaluation.measuring.measurement import Measurement
from ulcompress.files import whole_file

NARROWEST, WIDEST = 360, 640
"""Widths of a column, in pixels; an image whose width lies between them is not resized."""
MARGIN = 16
"""Space around panels, in pixels."""
ENLARGED = 3
"""How much narrower than the image its detail is."""

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Panel:
    """One column."""

    name: str
    """Written above it."""
    image: Image.Image
    """RGB; all panels have the same size."""
    measurement: Measurement | None = None
    """Bytes, bpp and PSNR are written below the name; None, for the original, writes the size in pixels."""

    @property
    def numbers(self) -> str:
        """The second line of the caption."""
        if self.measurement is None:
            return "{} x {} pixels".format(*self.image.size)
        m = self.measurement
        return f"{m.bytes} bytes, {m.bpp:.4f} bpp, {m.psnr:.2f} dB"


def side_by_side(panels: Sequence[Panel], path: str | Path, *, detail: Box | None = None) -> None:
    """Write panels beside each other as a PNG: captions, images, and below an enlarged detail of each.

    `detail` is left, top, right, bottom in pixels of the image; the middle by default. ValueError without panels, when
    their sizes differ, or when the detail is not within the image.
    """
    size = _common_size(panels)
    box = _checked(detail, size) if detail else _middle(size)
    width = min(max(size[0], NARROWEST), WIDEST)
    columns = [_column(panel, box, width) for panel in panels]
    height = max(column.height for column in columns)
    canvas = Image.new("RGB", (MARGIN + len(columns) * (width + MARGIN), height + 2 * MARGIN), "white")
    for index, column in enumerate(columns):
        canvas.paste(column, (MARGIN + index * (width + MARGIN), MARGIN))
    with whole_file(path) as file:
        canvas.save(file, "PNG")


def _column(panel: Panel, box: Box, width: int) -> Image.Image:
    rows = [
        _line(panel.name, width, 24),
        _line(panel.numbers, width, 18),
        _fit(panel.image, width),
        _fit(panel.image.crop(box), width),
    ]
    column = Image.new("RGB", (width, sum(row.height + MARGIN // 2 for row in rows)), "white")
    top = 0
    for row in rows:
        column.paste(row, (0, top))
        top += row.height + MARGIN // 2
    return column


def _line(text: str, width: int, size: int) -> Image.Image:
    """Write one line, smaller than asked where it would not fit."""
    line = Image.new("RGB", (width, size + 6), "white")
    draw = ImageDraw.Draw(line)
    while size > 8 and draw.textlength(text, ImageFont.load_default(size)) > width:
        size -= 1
    draw.text((0, line.height / 2), text, "black", ImageFont.load_default(size), anchor="lm")
    return line


def _fit(image: Image.Image, width: int) -> Image.Image:
    """Bring an image to a width; enlarging shows the pixels as they are."""
    method = Image.Resampling.NEAREST if image.width < width else Image.Resampling.LANCZOS
    return image.convert("RGB").resize((width, max(1, round(image.height * width / image.width))), method)


def _common_size(panels: Sequence[Panel]) -> tuple[int, int]:
    sizes = sorted({panel.image.size for panel in panels})
    if len(sizes) != 1:
        raise ValueError(f"got {len(panels)} panels with images of sizes {sizes}; give at least one, all of one size")
    return sizes[0]


def _checked(box: Box, size: tuple[int, int]) -> Box:
    left, top, right, bottom = box
    if not (0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]):
        raise ValueError(f"got the detail {box} of an image of {size[0]} x {size[1]} pixels; give one within it")
    return box


def _middle(size: tuple[int, int]) -> Box:
    width, height = (max(1, side // ENLARGED) for side in size)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return left, top, left + width, top + height
