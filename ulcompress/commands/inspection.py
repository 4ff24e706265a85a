"""What a .ulc file holds."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ulcompress.coding.bitstream import Field, layout, parse
from ulcompress.functional.limits import MAX_PIXELS
from ulcompress.pretrained import find, load, locate
from ulcompress.pretrained.directory import metadata


def describe(path: Path, codec: str | None = None, *, trust: Collection[str] = (), max_pixels: int = MAX_PIXELS) -> str:
    """Describe a file in a few lines: codec, size, bytes a stream.

    Args:
        path: The file.
        codec: Name or directory of its codec; None looks among the bundled and the imported ones.
        trust: Packages that it may name, as for `ulcompress.load`.
        max_pixels: Most pixels of its image.

    Raises:
        BitstreamError: It is not a good file.
    """
    data = path.read_bytes()
    header, payload = parse(data, max_pixels=max_pixels)
    fingerprint = header.fingerprint.hex()
    directory = _directory(fingerprint, codec)
    missing = f"not {codec}" if codec else "not found; name it with --codec"
    pixels = header.width * header.height
    lines = [
        f"{path}: {len(data)} bytes, {8 * len(data) / pixels:.4f} bpp",
        f"  image   {header.width} x {header.height}",
        f"  codec   {fingerprint} ({directory.absolute().name if directory else missing})",
        f"  header  {len(data) - len(payload)} bytes",
        *map(_line, layout(data, max_pixels=max_pixels)),
    ]
    if directory is None:
        return "\n".join([*lines, f"  payload {len(payload)} bytes"])
    bits = load(directory, encoder_only=True, trust=trust).stream_bits(data, max_pixels=max_pixels)
    return "\n".join([*lines, *(f"  {name:<7} {count / 8:.1f} bytes" for name, count in bits.items())])


def _line(field: Field) -> str:
    at = f"{field.start}" if field.size == 1 else f"{field.start}-{field.start + field.size - 1}"
    return f"    byte {at:<7} {field.name:<8}{field.content}"


def _directory(fingerprint: str, codec: str | None) -> Path | None:
    if codec is None:
        return find(fingerprint)
    directory = locate(codec)
    return directory if metadata(directory).get("fingerprint") == fingerprint else None
