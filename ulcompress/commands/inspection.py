"""What a .ulc file holds, read without torch where tables alone suffice."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from ulcompress.coding.bitstream import parse, stream_bits
from ulcompress.functional.limits import MAX_PIXELS
from ulcompress.pretrained import bundled_codecs, locate
from ulcompress.pretrained.directory import WEIGHTS, file_of, metadata, stream_specs

if TYPE_CHECKING:
    import numpy as np


def describe(path: Path, codec: str | None = None, *, trust: Collection[str] = (), max_pixels: int = MAX_PIXELS) -> str:
    """Describe a file in a few lines: codec, size, bytes a stream.

    Args:
        path: The file.
        codec: Name or directory of its codec; None looks among the bundled ones.
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
        f"  codec   {fingerprint} ({directory.resolve().name if directory else missing})",
        f"  header  {len(data) - len(payload)} bytes",
    ]
    sizes = _streams(data, directory, trust, max_pixels) if directory else {}
    lines += [f"  {name:<7} {bits / 8:.1f} bytes" for name, bits in sizes.items()]
    if not sizes:
        lines.append(f"  payload {len(payload)} bytes")
    return "\n".join(lines)


def _directory(fingerprint: str, codec: str | None) -> Path | None:
    candidates = [locate(codec)] if codec else bundled_codecs()
    return next((path for path in candidates if metadata(path).get("fingerprint") == fingerprint), None)


def _streams(data: bytes, directory: Path, trust: Collection[str], max_pixels: int) -> dict[str, float]:
    specs = stream_specs(directory)
    if None in specs:  # a stream that one table does not tell
        from ulcompress.pretrained import load

        return load(directory, encoder_only=True, trust=trust).stream_bits(data, max_pixels=max_pixels)
    streams = [spec for spec in specs if spec is not None]
    return stream_bits(data, streams, _tables(directory), max_pixels=max_pixels)


def _tables(directory: Path) -> Callable[[str], np.ndarray]:
    from safetensors import SafetensorError, safe_open

    path = file_of(directory, WEIGHTS)

    def table(name: str) -> np.ndarray:
        try:
            with safe_open(path, framework="numpy") as file:
                return file.get_tensor(name)
        except (SafetensorError, TypeError) as error:
            raise ValueError(f"{path} is damaged: it has no table {name!r}; get the codec again") from error

    return table
