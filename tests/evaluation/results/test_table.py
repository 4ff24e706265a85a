import csv
import io
from operator import itemgetter

from ulcompress.evaluation.results.table import Column, Table

TABLE = Table(
    "Means of 3 images.",
    [
        Column(itemgetter("name"), "name", "codec", text=True),
        Column(itemgetter("value"), "value", "PSNR & more", "{:.2f}".format),
        Column(itemgetter("low"), "low"),
        Column(lambda row: f"{row['low']} %", heading="at least"),
    ],
    [{"name": "a_b | 50 %", "value": 1.2345, "low": 1}, {"name": "x", "value": None, "low": None}],
)


def test_markdown_is_for_readers():
    assert TABLE.markdown.splitlines() == [
        "Means of 3 images.",
        "",
        "| codec | PSNR & more | at least |",
        "| :-- | --: | --: |",
        r"| a_b \| 50 % | 1.23 | 1 % |",
        "| x |  | None % |",
    ]


def test_csv_has_the_values_as_they_are():
    rows = list(csv.reader(io.StringIO(TABLE.csv)))
    assert rows == [["name", "value", "low"], ["a_b | 50 %", "1.2345", "1"], ["x", "", ""]]


def test_latex_is_a_float_of_booktabs_with_its_letters_escaped():
    lines = TABLE.latex.splitlines()
    assert lines[0] == r"\begin{table}" and lines[-1] == r"\end{table}"
    assert lines[2:6] == [
        r"\caption{Means of 3 images.}", r"\begin{tabular}{lrr}", r"\toprule", r"codec & PSNR \& more & at least \\"
    ]  # fmt: skip
    assert r"a\_b | 50 \% & 1.23 & 1 \% \\" in lines
    assert [line for line in lines if "rule" in line] == [r"\toprule", r"\midrule", r"\bottomrule"]
    odd = Table(r"\input{~}^#$", [Column(str, "a", "{}", text=True)], [])
    assert r"\caption{\textbackslash{}input\{\textasciitilde{}\}\textasciicircum{}\#\$}" in odd.latex
