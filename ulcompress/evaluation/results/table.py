"""A table of numbers, written for readers, for papers and for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}  # fmt: skip
"""What stands for letters that LaTeX reads as commands."""


@dataclass(frozen=True)
class Column:
    """A column of a table whose rows are anything."""

    value: Callable[[Any], Any]
    """Its value in a row; None leaves the cell empty."""
    name: str | None = None
    """Heading of the CSV; None for a column that it does not have."""
    heading: str | None = None
    """Heading for readers; None for a column of the CSV alone."""
    show: Callable[[Any], str] = str
    """Writes a value for readers; the CSV has it as it is."""
    text: bool = False
    """Whether its cells start on one line; those of numbers end on one."""


@dataclass(frozen=True)
class Table:
    """Rows under columns."""

    caption: str
    """What the numbers are."""
    columns: Sequence[Column]
    """From left to right."""
    rows: Sequence[Any]

    @property
    def csv(self) -> str:
        """The values as they are, below the columns' names."""
        text = io.StringIO()
        columns = [column for column in self.columns if column.name is not None]
        values = ([column.value(row) for column in columns] for row in self.rows)
        csv.writer(text, lineterminator="\n").writerows([[column.name for column in columns], *values])
        return text.getvalue()

    @property
    def markdown(self) -> str:
        """The caption, and a table of GitHub's kind."""
        lines = [self._headings, [":--" if column.text else "--:" for column in self._shown], *self._cells]
        return f"{self.caption}\n\n" + "".join(
            f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines
        )

    @property
    def latex(self) -> str:
        """A float with a caption, for a document that loads the package booktabs."""
        head, *body = [" & ".join(map(_escaped, line)) + r" \\" for line in (self._headings, *self._cells)]
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{_escaped(self.caption)}}}",
                rf"\begin{{tabular}}{{{''.join('l' if column.text else 'r' for column in self._shown)}}}",
                r"\toprule",
                head,
                r"\midrule",
                *body,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )

    @property
    def _shown(self) -> list[Column]:
        return [column for column in self.columns if column.heading is not None]

    @property
    def _headings(self) -> list[str]:
        return [column.heading or "" for column in self._shown]

    @property
    def _cells(self) -> list[list[str]]:
        return [[_cell(column, row) for column in self._shown] for row in self.rows]


def _cell(column: Column, row: Any) -> str:
    value = column.value(row)
    return "" if value is None else column.show(value)


def _escaped(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in text)
