"""One picture that shows an image through several codecs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ulcompress.evaluation.measuring.measurement import Measurement
from ulcompress.images import from_pil, write_image

NARROWEST, WIDEST = 360, 640
"""Widths of a column, in pixels; an image whose width lies between them is not resized."""
MARGIN = 16
"""Space around panels, in pixels."""
ENLARGED = 3
"""How much narrower than the image its detail is."""
QUALITY = 80
"""Of a picture in a lossy format."""

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Panel:
    """One image of the picture."""

    name: str
    """Written above it."""
    image: Image.Image
    """RGB; all panels have the same size."""
    measurement: Measurement | None = None
    """Bytes, bpp and PSNR are written below the name; None, for the original, writes the size in pixels."""

    note: str = ""
    """What has to be said of them, in parentheses."""

    @property
    def numbers(self) -> str:
        """The second line of the caption."""
        if self.measurement is None:
            return "{} x {} pixels".format(*self.image.size)
        m = self.measurement
        return f"{m.bytes} bytes, {m.bpp:.4f} bpp, {m.psnr:.2f} dB" + (f" ({self.note})" if self.note else "")


def side_by_side(rows: Sequence[Sequence[Panel]], path: str | Path, *, detail: Box | None = None) -> None:
    """Write rows of panels as one picture, each with its caption above, in the format of the path's suffix.

    Args:
        rows: From top to bottom, each from left to right.
        path: Of the picture: `.png`, or a lossy format such as `.webp`.
        detail: Left, top, right, bottom in pixels of a part of the image that is enlarged below each panel; None takes
            the middle where there is one row, and leaves it out where there are several.

    Raises:
        ValueError: There are no panels, their sizes differ, or the detail is not within the image.
        ImageError: The format cannot be written.
    """
    size = _common_size([panel for row in rows for panel in row])
    box = _checked(detail, size) if detail else _middle(size) if len(rows) == 1 else None
    width = min(max(size[0], NARROWEST), WIDEST)
    cells = [[_cell(panel, box, width) for panel in row] for row in rows]
    height = cells[0][0].height
    most = max(map(len, cells))
    canvas = Image.new("RGB", (MARGIN + most * (width + MARGIN), MARGIN + len(cells) * (height + MARGIN)), "white")
    for down, row in enumerate(cells):
        for across, cell in enumerate(row):
            canvas.paste(cell, (MARGIN + across * (width + MARGIN), MARGIN + down * (height + MARGIN)))
    write_image(from_pil(canvas), path, quality=None if Path(path).suffix.lower() == ".png" else QUALITY)


def _cell(panel: Panel, box: Box | None, width: int) -> Image.Image:
    parts = [
        _line(panel.name, width, 24),
        _line(panel.numbers, width, 18),
        _fit(panel.image, width),
        *([_fit(panel.image.crop(box), width)] if box else []),
    ]
    cell = Image.new("RGB", (width, sum(part.height + MARGIN // 2 for part in parts)), "white")
    top = 0
    for part in parts:
        cell.paste(part, (0, top))
        top += part.height + MARGIN // 2
    return cell


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
