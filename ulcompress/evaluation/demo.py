"""One photograph through a codec and through classical ones, in a minute."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

from ulcompress.codec import Codec
from ulcompress.evaluation.anchors import ANCHORS, Match, match
from ulcompress.evaluation.measuring.measurement import HEADINGS, Measurement
from ulcompress.evaluation.measuring.timing import timed
from ulcompress.evaluation.picture import Panel, side_by_side
from ulcompress.files import write_whole
from ulcompress.functional.limits import MAX_PIXELS
from ulcompress.images import from_pil, open_image, write_image


def demo(
    codec: Codec,
    image_path: Path | None,
    out: Path,
    caption: str | None = None,
    rate: int | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
) -> list[Path]:
    """Compress a photograph to a file, restore it, show it beside AVIF and JPEG of as many bytes, print a table.

    Args:
        codec: Ready for use, as `ulcompress.load` returns it.
        image_path: The photograph; None takes scikit-image's `coffee`, which is in the public domain (CC0).
        out: A folder for the results.
        caption: What the photograph shows, for codecs with text.
        rate: Of a codec with several; None takes the highest.
        max_pixels: Most pixels of the photograph.

    Returns:
        What was written: the compressed file, the restored image, the picture; and first of all the photograph, where
        it is scikit-image's.

    Raises:
        ImageError: The photograph cannot be read.
        ValueError: scikit-image is not installed, or the codec refuses the caption or the rate.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = image_path if image_path is not None else _coffee(out)
    original = open_image(path, max_pixels=max_pixels)
    file, restored, picture = (out / f"{path.stem}{end}" for end in (".ulc", "_restored.png", "_comparison.png"))
    ours = _through_file(codec, original, {"caption": caption, "rate": rate}, file, restored, max_pixels)
    anchors = [match(ANCHORS[name](), original, ours.bytes) for name in ("avif", "jpeg")]
    measured = {anchor.label: _measurement(anchor, original) for anchor in anchors}
    panels = [Panel("original", original), Panel("ulcompress", open_image(restored, max_pixels=max_pixels), ours)]
    panels += [Panel(anchor.label, anchor.restored, measured[anchor.label]) for anchor in anchors]
    side_by_side(panels, picture)
    _print({"ulcompress": ours} | measured)  # last: a closed pipe must not cost the files
    return [*([path] if image_path is None else []), file, restored, picture]


def _coffee(folder: Path) -> Path:
    try:
        from skimage.data import coffee
    except ImportError as error:
        raise ValueError('no photograph to show; run `pip install "ulcompress[demo]"` or give an image') from error
    path = folder / "coffee.png"
    write_image(from_pil(Image.fromarray(coffee())), path)
    return path


def _through_file(
    codec: Codec, original: Image.Image, options: Mapping[str, Any], file: Path, restored: Path, max_pixels: int
) -> Measurement:
    _ = codec.fingerprint  # no part of the time for an image
    data, encode_seconds = timed(lambda: codec.compress(original, **options, max_pixels=max_pixels))
    write_whole(file, data)
    image, decode_seconds = timed(lambda: codec.decompress(file.read_bytes(), max_pixels=max_pixels))
    write_image(image, restored)
    size = file.stat().st_size
    return Measurement.compare(
        image, from_pil(original), size=size, encode_seconds=encode_seconds, decode_seconds=decode_seconds
    )


def _measurement(anchor: Match, original: Image.Image) -> Measurement:
    return Measurement.compare(
        from_pil(anchor.restored),
        from_pil(original),
        size=len(anchor.data),
        encode_seconds=anchor.encode_seconds,
        decode_seconds=anchor.decode_seconds,
    )


def _print(rows: Mapping[str, Measurement]) -> None:
    table = Table("codec")
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for name, measurement in rows.items():
        table.add_row(name, *measurement.cells)
    console = Console()
    with console.capture() as capture:
        console.print(table)
    print(capture.get(), end="")
