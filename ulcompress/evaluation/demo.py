"""One photograph through a codec and through classical ones, in a minute."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ulcompress.codec import Codec
from ulcompress.evaluation.anchors import Anchor, match
from ulcompress.evaluation.measuring.evaluation import usable_anchor
from ulcompress.evaluation.measuring.measurement import HEADINGS, Measurement
from ulcompress.evaluation.measuring.timing import timed
from ulcompress.evaluation.picture import Panel, side_by_side
from ulcompress.files import write_whole
from ulcompress.functional.limits import MAX_PIXELS
from ulcompress.images import from_pil, open_image, to_pil, write_image


def demo(
    codec: Codec,
    image_path: Path | None,
    out: Path,
    caption: str | None = None,
    *,
    rates: Sequence[int] = (),
    steps: Sequence[int] = (),
    anchors: Sequence[str] = ("avif",),
    picture: Path | None = None,
    max_pixels: int = MAX_PIXELS,
) -> list[Path]:
    """Compress a photograph to files, restore it, show it beside anchors of as many bytes, print a table.

    Args:
        codec: Ready for use, as `ulcompress.load` returns it.
        image_path: The photograph; None takes scikit-image's `coffee`, which is in the public domain (CC0).
        out: A folder for the results.
        caption: What the photograph shows, for codecs with text.
        rates: Of a codec with several, a row of the picture each; none takes all.
        steps: Numbers of steps of the sampler, a column each; none takes the codec's own.
        anchors: Names of `ANCHORS`, a column each.
        picture: Path of the picture, whose suffix is that of its format; None puts a PNG into the folder.
        max_pixels: Most pixels of the photograph.

    Returns:
        What was written: compressed files and restored images by rate, and last the picture; and first of all the
        photograph, where it is scikit-image's.

    Raises:
        ImageError: The photograph cannot be read, or the picture's format not be written.
        ValueError: scikit-image is not installed, an anchor is unknown or not there, or the codec refuses the caption,
            a rate or a number of steps.
    """
    beside = [usable_anchor(name) for name in anchors]
    out.mkdir(parents=True, exist_ok=True)
    path = image_path if image_path is not None else _coffee(out)
    original = open_image(path, max_pixels=max_pixels)
    trial = _Trial(codec, original, caption, max_pixels)
    several = range(1, codec.quantizer.rates + 1) if codec.quantizer.rates > 1 else [None]
    rows, written = [], []
    for rate_tag, rate in _tagged("rate", rates or several).items():
        written.append(file := out / f"{path.stem}{rate_tag}.ulc")
        trial.compress(file, rate)
        row = [Panel("original", original)]
        for steps_tag, number in _tagged("steps", steps or [None]).items():
            written.append(restored := out / f"{path.stem}{rate_tag}{steps_tag}_restored.png")
            name = ", ".join(["ulcompress", *_words(rate_tag), *_words(steps_tag)])
            row.append(trial.decompress(file, restored, number, name))
        rows.append([*row, *(trial.matched(anchor, file) for anchor in beside)])
    side_by_side(rows, picture := picture or out / f"{path.stem}_comparison.png")
    _print([panel for row in rows for panel in row])  # last: a closed pipe must not cost the files
    return [*([path] if image_path is None else []), *written, picture]


class _Trial:
    """A photograph through a codec, and through anchors at the size of its files."""

    def __init__(self, codec: Codec, original: Image.Image, caption: str | None, max_pixels: int):
        self.codec = codec
        self.original = original
        self.caption = caption
        self.max_pixels = max_pixels
        self.seconds: dict[Path, float] = {}
        _ = codec.fingerprint  # no part of the time for an image

    def compress(self, file: Path, rate: int | None) -> None:
        """Write the file at a rate."""
        options = {"caption": self.caption, "rate": rate, "max_pixels": self.max_pixels}
        data, self.seconds[file] = timed(lambda: self.codec.compress(self.original, **options))
        write_whole(file, data)

    def decompress(self, file: Path, restored: Path, steps: int | None, name: str) -> Panel:
        """Restore a file that was written to an image, and return its panel of this name."""
        options = {"steps": steps, "max_pixels": self.max_pixels}
        image, seconds = timed(lambda: self.codec.decompress(file.read_bytes(), **options))
        write_image(image, restored)
        return Panel(name, to_pil(image), self._measured(image, file.stat().st_size, self.seconds[file], seconds))

    def matched(self, anchor: Anchor, file: Path) -> Panel:
        """Return the panel of an anchor within the size of a file."""
        found = match(anchor, self.original, file.stat().st_size)
        seconds = found.encode_seconds, found.decode_seconds
        measurement = self._measured(from_pil(found.restored), len(found.data), *seconds)
        note = "" if found.smallest is None else f"at full size at least {found.smallest} bytes"
        return Panel(found.label, found.restored, measurement, note)

    def _measured(self, image: Tensor, size: int, encode_seconds: float, decode_seconds: float) -> Measurement:
        seconds = {"encode_seconds": encode_seconds, "decode_seconds": decode_seconds}
        return Measurement.compare(image, from_pil(self.original), size=size, **seconds)


def _tagged(name: str, values: Sequence[int | None]) -> dict[str, int | None]:
    """Return values by what tells their files apart: nothing where there is one."""
    return {f"_{name}-{value}" if len(values) > 1 else "": value for value in values}


def _words(tag: str) -> list[str]:
    """Return a tag as words for a caption, none of an empty one."""
    return [tag[1:].replace("-", " ")] if tag else []


def _coffee(folder: Path) -> Path:
    try:
        from skimage.data import coffee
    except ImportError as error:
        raise ValueError('no photograph to show; run `pip install "ulcompress[demo]"` or give an image') from error
    path = folder / "coffee.png"
    write_image(from_pil(Image.fromarray(coffee())), path)
    return path


def _print(panels: Sequence[Panel]) -> None:
    table = Table("codec")
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for panel in panels:
        if panel.measurement is not None:
            table.add_row(panel.name, *panel.measurement.cells)
    console = Console()
    with console.capture() as capture:
        console.print(table)
    print(capture.get(), end="")
