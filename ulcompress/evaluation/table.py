"""Measurements as tables."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from math import isnan, nan
from pathlib import Path

from ulcompress.evaluation.measurement import Measurement

COLUMNS = {
    "bytes": ("bytes", ".0f"),
    "bpp": ("bpp", ".4f"),
    "psnr": ("PSNR (dB)", ".2f"),
    "ms_ssim": ("MS-SSIM", ".4f"),
    "encode_seconds": ("encode (s)", ".2f"),
    "decode_seconds": ("decode (s)", ".2f"),
}
"""Heading and format of each number that tables show, by its name in `Measurement`."""


def summary(measurements: Sequence[Measurement]) -> dict[str, float]:
    """Return the number of images and the means over images of bytes, bpp, PSNR, MS-SSIM and both times.

    The mean of MS-SSIM is over the images that are large enough for it, NaN where there are none. ValueError without
    any measurement.
    """
    if not measurements:
        raise ValueError("got no measurements; measure at least one image")
    return {"images": len(measurements)} | {name: _mean([getattr(m, name) for m in measurements]) for name in COLUMNS}


def markdown(measurements: Sequence[Measurement], *, per_image: bool = False) -> str:
    """Return a Markdown table of the means; with `per_image` one of all images, the means below.

    Raises ValueError without any measurement.
    """
    means = summary(measurements)
    headings = [heading for heading, _ in COLUMNS.values()]
    if not per_image:
        return _lines(["images", *headings], [[str(len(measurements)), *cells(means)]])
    rows = [[m.image.replace("|", "\\|"), *cells(asdict(m))] for m in measurements]
    return _lines(["image", *headings], [*rows, [f"mean of {len(measurements)}", *cells(means)]])


def write_csv(measurements: Sequence[Measurement], path: str | Path) -> None:
    """Write one row an image, with the fields of `Measurement` in full precision."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Measurement)])
        writer.writeheader()
        writer.writerows(asdict(measurement) for measurement in measurements)


def cells(values: Mapping[str, float]) -> list[str]:
    """Format the numbers of a measurement or a summary, in the order of `COLUMNS`."""
    return [format(values[name], style) for name, (_, style) in COLUMNS.items()]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not isnan(value)]
    return sum(known) / len(known) if known else nan


def _lines(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = [":--", *("--:" for _ in headings[1:])]
    return "".join(f"| {' | '.join(row)} |\n" for row in [headings, rule, *rows])
