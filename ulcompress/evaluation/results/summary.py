"""The tables of an evaluation: means, differences to the reference, Bjøntegaard deltas of the rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from ulcompress.evaluation.results.table import Column, Table

Results = Mapping[str, Any]
"""The content of `results.json`."""
ENDS = {"value": "", "low": " 95 % low", "high": " 95 % high"}
"""Suffixes of a metric's columns in the CSV: its mean, and the ends of the mean's 95 % interval over images."""


def summary_markdown(results: Results) -> str:
    """Return all tables, with remarks on what is missing and on how points were compared."""
    first, *others = _tables(results)
    remarks = "".join(f"- {line}\n" for line in _remarks(results))
    return "\n".join(text for text in (first.markdown, remarks, *(table.markdown for table in others)) if text)


def summary_latex(results: Results) -> str:
    """Return all tables as floats, for documents that load booktabs."""
    return "\n".join(table.latex for table in _tables(results))


def means(results: Results) -> Table:
    """Return the table of contestants; the ends of the intervals of their means are in the CSV alone."""
    metrics = [metric for metric in results["metrics"] if metric["missing"] is None]
    columns = [
        Column(itemgetter("contestant"), "contestant", "codec", text=True),
        Column(itemgetter("images"), "images"),
        Column(itemgetter("bytes"), "bytes"),
        Column(_bytes, heading="bytes"),
        Column(itemgetter("bpp"), "bpp", "bpp", "{:.4f}".format),
        *(column for metric in metrics for column in _metric_columns(metric)),
        Column(itemgetter("encode_seconds"), "encode_seconds", "encode (s)", "{:.2f}".format),
        Column(itemgetter("decode_seconds"), "decode_seconds", "decode (s)", "{:.2f}".format),
        Column(itemgetter("working_memory"), "working_memory"),
        Column(_mebibytes, heading="working memory (MiB)"),
    ]
    return Table(f"{_count(results)}; files on the disk, means over images.", columns, results["summary"])


def differences(results: Results) -> Table:
    """Return the table of differences to the reference, of which each is at equal rate where that can be."""
    rows = [row for row in results["comparisons"] if row["difference"] is not None]
    labels = {metric["name"]: metric["label"] for metric in results["metrics"]}
    columns = [
        Column(itemgetter("name"), "contestant", "codec", text=True),
        Column(itemgetter("reference"), "reference"),
        Column(itemgetter("metric"), "metric", "metric", labels.__getitem__, text=True),
        Column(itemgetter("difference"), "difference"),
        Column(difference_text, heading="difference"),
        Column(itemgetter("low"), "95 % low"),
        Column(itemgetter("high"), "95 % high"),
        Column(interval_text, heading="95 % interval"),
        Column(itemgetter("images"), "images"),
        Column(itemgetter("seeds"), "seeds"),
        Column(itemgetter("wins"), "wins"),
        Column(_wins, heading="better on"),
        Column(itemgetter("rate_percent"), "rate_percent", "bits", "{:+.1f} %".format),
        Column(itemgetter("kind"), "kind", "compared", text=True),
    ]
    return Table(_caption(rows, results["kinds"]), columns, rows)


def rate_deltas(results: Results) -> Table:
    """Return the table of Bjøntegaard deltas that are defined."""
    columns = [
        Column(itemgetter("curve"), "curve", "curve", text=True),
        Column(itemgetter("reference"), "reference", "reference", text=True),
        Column(itemgetter("metric"), "metric", "at equal", text=True),
        Column(itemgetter("rate_percent"), "rate_percent"),
        Column(itemgetter("low"), "95 % low"),
        Column(itemgetter("high"), "95 % high"),
        Column(_percent, heading="rate"),
    ]
    rows = [row for row in results["bjontegaard"] if row["rate_percent"] is not None]
    return Table("Bjøntegaard deltas of the rate, with 95 % intervals over images.", columns, rows)


def short(value: float) -> str:
    """Write four digits behind the point for small numbers, fewer for large ones."""
    return f"{value:.{_digits(value)}f}"


def difference_text(row: Mapping[str, Any]) -> str:
    """Write a difference with its sign, with as many digits as its interval."""
    return f"{row['difference']:+.{_row_digits(row)}f}"


def interval_text(row: Mapping[str, Any]) -> str:
    """Write the ends of the interval of a difference, or that there is none."""
    if row["low"] is None:
        return "no interval"
    return " to ".join(f"{row[end]:+.{_row_digits(row)}f}" for end in ("low", "high"))


def _tables(results: Results) -> list[Table]:
    return [means(results), *(table for table in (differences(results), rate_deltas(results)) if table.rows)]


def _metric_columns(metric: Mapping[str, Any]) -> list[Column]:
    """Return the columns of one metric, of which readers see the first."""
    name = metric["name"]

    def of(end: str):
        return lambda row: row["metrics"][name] and row["metrics"][name][end]

    headings = {"value": metric["label"]}
    return [Column(of(end), f"{name}{suffix}", headings.get(end), short) for end, suffix in ENDS.items()]


def _remarks(results: Results) -> list[str]:
    """Return the remarks below the first table, a line each."""
    rows = results["summary"]
    lines = []
    for metric in results["metrics"]:
        count = next((value["images"] for row in rows if (value := row["metrics"].get(metric["name"]))), None)
        if metric["missing"] is not None:
            lines.append(f"{metric['name']} is missing: {metric['missing']}")
        elif count is not None and count < rows[0]["images"]:
            lines.append(f"{metric['label']} is of {count} images, for which it is defined")
    lines += [f"{one['name']} failed on every image: {one['error']}" for one in results["failed"]]
    failed = {one["name"] for one in results["failed"]}
    left_out = [failure for failure in results["failures"] if failure["contestant"] not in failed]
    return lines + [f"left out: {f['image']} through {f['contestant']}: {f['error']}" for f in left_out]


def _count(results: Results) -> str:
    images = results["summary"][0]["images"]
    known = {image["name"] for image in results["images"]} | {failure["image"] for failure in results["failures"]}
    left_out = len(known) - images
    return f"{images} image{'s' * (images != 1)}{f', {left_out} left out' if left_out else ''}"


def _caption(rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, str]) -> str:
    """Say what the differences are; none without rows."""
    if not rows:
        return ""
    used = "; ".join(f"{kind}: {kinds[kind]}" for kind in dict.fromkeys(row["kind"] for row in rows))
    intervals = "with 95 % intervals over images, which both have coded; a metric of a whole set has no interval"
    return f"Differences to {rows[0]['reference']}, {intervals}. {used[0].upper()}{used[1:]}."


def _bytes(row: Mapping[str, Any]) -> str:
    return f"{row['bytes']:.0f}" + (f" ({row['over_budget']} over budget)" if row["over_budget"] else "")


def _mebibytes(row: Mapping[str, Any]) -> str | None:
    return None if row["working_memory"] is None else f"{row['working_memory'] / 2**20:.0f}"


def _wins(row: Mapping[str, Any]) -> str | None:
    return None if row["wins"] is None else f"{row['wins']} of {row['images']}"


def _percent(delta: Mapping[str, Any]) -> str:
    ends = "" if delta["low"] is None else f" ({delta['low']:+.1f} to {delta['high']:+.1f})"
    return f"{delta['rate_percent']:+.1f} %{ends}"


def _row_digits(row: Mapping[str, Any]) -> int:
    return min(_digits(row[name]) for name in ("difference", "low", "high") if row[name] is not None)


def _digits(value: float) -> int:
    return 4 if abs(value) < 1 else 2 if abs(value) < 1000 else 0
