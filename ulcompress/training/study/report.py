"""The result of a study: its table in three forms, the commands behind it, and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ulcompress.evaluation.results.comparison import KINDS
from ulcompress.evaluation.results.summary import difference_text, interval_text, short
from ulcompress.evaluation.results.table import Column, Table
from ulcompress.files import write_whole
from ulcompress.training.study.outcome import Row, StudyOutcome
from ulcompress.training.study.page import write_study_page
from ulcompress.training.study.plan import DONE
from ulcompress.training.study.study import BASE


def write_report(outcome: StudyOutcome, folder: Path) -> list[Path]:
    """Write `table.md`, `table.csv`, `table.tex` and, once the base is measured, `index.html`; return their paths."""
    table = differences(outcome)
    texts = {"table.md": markdown(outcome), "table.csv": table.csv, "table.tex": table.latex}
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_whole(folder / name, text.encode())
    page = [write_study_page(outcome, folder)] if outcome.rows else []
    return [*(folder / name for name in texts), *page]


def markdown(outcome: StudyOutcome) -> str:
    """Return the table, what is not done and why, and the commands that reproduce each row."""
    remarks = "".join(f"- {line}\n" for line in outcome.remarks)
    rows = "".join(f"{row.name}, one seed:\n\n```sh\n{chr(10).join(row.commands)}\n```\n\n" for row in outcome.rows)
    return "\n".join(part for part in (differences(outcome).markdown, remarks, rows.rstrip() + "\n") if part.strip())


def differences(outcome: StudyOutcome) -> Table:
    """Return the table of variants, the base first."""
    columns = [
        Column(lambda row: row.name, "variant", "variant", text=True),
        Column(lambda row: row.seeds, "seeds", "n"),
        Column(lambda row: row.bytes, "bytes", "bytes", "{:.0f}".format),
        Column(lambda row: row.bpp, "bpp", "bpp", "{:.4f}".format),
        *(column for metric in outcome.metrics for column in _metric_columns(metric)),
        Column(lambda row: row.cost.seconds, "training_seconds", "training (s)", "{:.0f}".format),
        Column(lambda row: row.cost.memory, "memory"),
        Column(lambda row: row.cost.memory / 2**20, heading="memory (MiB)", show="{:.0f}".format),
        Column(lambda row: row.cost.parameters, "parameters", "parameters", "{:,}".format),
        Column(lambda row: row.cost.codec_bytes, "codec_bytes"),
        Column(lambda row: row.cost.codec_bytes / 2**20, heading="codec (MiB)", show="{:.1f}".format),
    ]
    return Table(_caption(outcome), columns, outcome.rows)


def _metric_columns(metric: Mapping[str, Any]) -> list[Column]:
    """Return the columns of one metric: the mean, and the difference to the base with all that belongs to it."""
    name = metric["name"]

    def of(field: str):
        return lambda row: _field(row, name, field)

    fields = {"difference": "", "low": " 95 % low", "high": " 95 % high"}
    return [
        Column(of("mean"), name, metric["label"], short),
        *(Column(of(field), f"{name} difference{suffix}") for field, suffix in fields.items()),
        *(Column(of(field), f"{name} {field}") for field in ("images", "wins", "rate_percent", "kind", "refused")),
        Column(lambda row: _described(row, name), heading=f"{metric['label']}, difference", text=True),
    ]


def _field(row: Row, metric: str, field: str) -> Any:
    hidden = row.name == BASE and field not in ("mean", "images")
    return None if hidden else row.difference(metric)[field]


def _described(row: Row, metric: str) -> str | None:
    """Write a difference with its interval, on how many images it is better, and how it was found."""
    found = row.difference(metric)
    if row.name == BASE:
        return None
    if found["difference"] is None:
        return found["refused"]
    wins = "" if found["wins"] is None else f", {found['wins']} of {found['images']}"
    rate = "" if found["rate_percent"] is None else f", bits {found['rate_percent']:+.1f} %"
    return f"{difference_text(found)} ({interval_text(found)}){wins}{rate}, {found['kind']}"


def _caption(outcome: StudyOutcome) -> str:
    done = sum(outcome.state(run) == DONE for run in outcome.runs)
    kinds = _kinds(outcome.rows)
    return " ".join(
        [
            f"Study {outcome.study.name}: {done} of {len(outcome.runs)} runs are done.",
            "Means over images, settings of one rate and n seeds, with which base and variant were trained in pairs;",
            "differences to the base with 95 % intervals over seeds and images, on how many images it is better, bits.",
            *([f"Of {len(kinds)} intervals one in twenty leaves out the truth by chance."] if kinds else []),
            *(f"{kind}: {KINDS[kind]}." for kind in dict.fromkeys(kinds)),
        ]
    )


def _kinds(rows: Sequence[Row]) -> list[str]:
    return [one.kind for row in rows if row.name != BASE for one in row.comparisons.values()]
