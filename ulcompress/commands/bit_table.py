"""What the bits of .ulc files are for, in a table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from ulcompress.coding.bitstream import parse
from ulcompress.commands.batch import about
from ulcompress.commands.decompress import directory_of
from ulcompress.evaluation.results.table import Column, Table
from ulcompress.functional.limits import MAX_PIXELS
from ulcompress.pretrained import load

CAPTION = "Bits of each file: header and check, the ideal bits of every stream, their sum, and the bits of the file."


class Bits(NamedTuple):
    """The bits of a file, or means of several."""

    name: str
    """Name of the file."""
    container: float
    """Those of header and check."""
    streams: Mapping[str, float]
    """The ideal ones of each stream, under the integer probabilities by which it is coded."""
    real: float
    """Those on the disk."""

    @property
    def ideal(self) -> float:
        """Sum of the streams; what the file has beyond this and the container ends the arithmetic code."""
        return sum(self.streams.values())


def tabulate(
    paths: Sequence[Path], codec: str | None = None, *, trust: Collection[str] = (), max_pixels: int = MAX_PIXELS
) -> str:
    """Return a Markdown table with a line for each file and one for the means.

    Args:
        paths: The files.
        codec: Name or directory of their codec; None looks among the bundled and the imported ones.
        trust: Packages that it may name, as for `ulcompress.load`.
        max_pixels: Most pixels of an image.

    Raises:
        ValueError: A file cannot be read, or its codec is not on this machine; the message names the file.
    """
    loaded = lru_cache(maxsize=1)(partial(load, encoder_only=True, trust=trust))
    rows = []
    for path in paths:
        try:
            data = path.read_bytes()
            _, payload = parse(data, max_pixels=max_pixels)
            streams = loaded(codec or directory_of(data, max_pixels=max_pixels)).stream_bits(
                data, max_pixels=max_pixels
            )
        except (ValueError, OSError) as error:
            raise ValueError(about(path, error)) from error
        rows.append(Bits(path.name, 8 * (len(data) - len(payload)), streams, 8 * len(data)))
    return Table(CAPTION, _columns(rows), [*rows, _mean(rows)]).markdown


def _columns(rows: Sequence[Bits]) -> list[Column]:
    names = dict.fromkeys(name for row in rows for name in row.streams)
    values = [
        ("container", lambda row: row.container),
        *((name, partial(_stream, name)) for name in names),
        ("ideal", lambda row: row.ideal),
        ("real", lambda row: row.real),
    ]
    numbers = [Column(value, heading=name, show="{:.1f}".format) for name, value in values]
    return [Column(lambda row: row.name, heading="file", text=True), *numbers]


def _stream(name: str, row: Bits) -> float | None:
    return row.streams.get(name)


def _mean(rows: Sequence[Bits]) -> Bits:
    names = dict.fromkeys(name for row in rows for name in row.streams)
    streams = {name: fmean(row.streams.get(name, 0) for row in rows) for name in names}
    return Bits("mean", fmean(row.container for row in rows), streams, fmean(row.real for row in rows))
