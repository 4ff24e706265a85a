import csv
import math

import pytest

from ulcompress.evaluation import Measurement, markdown, summary, write_csv

MEASURED = [
    Measurement("a.png", 100, 200, 100, 0.04, 20.0, 0.5, 1.0, 2.0),
    Measurement("b|c.png", 100, 100, 200, 0.16, 30.0, math.nan, 3.0, 4.0),
]


def test_summary_is_the_mean_over_images():
    assert summary(MEASURED) == {
        "images": 2,
        "bytes": 150,
        "bpp": pytest.approx(0.1),
        "psnr": 25,
        "ms_ssim": 0.5,
        "encode_seconds": 2,
        "decode_seconds": 3,
    }
    assert math.isnan(summary(MEASURED[1:])["ms_ssim"])


def test_summary_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        summary([])


def test_markdown_of_means():
    assert markdown(MEASURED) == (
        "| images | bytes | bpp | PSNR (dB) | MS-SSIM | encode (s) | decode (s) |\n"
        "| :-- | --: | --: | --: | --: | --: | --: |\n"
        "| 2 | 150 | 0.1000 | 25.00 | 0.5000 | 2.00 | 3.00 |\n"
    )


def test_markdown_of_all_images():
    heading, _, first, second, mean = markdown(MEASURED, per_image=True).splitlines()
    assert heading.startswith("| image | bytes ")
    assert first == "| a.png | 100 | 0.0400 | 20.00 | 0.5000 | 1.00 | 2.00 |"
    assert second == "| b\\|c.png | 200 | 0.1600 | 30.00 | nan | 3.00 | 4.00 |"
    assert mean == "| mean of 2 | 150 | 0.1000 | 25.00 | 0.5000 | 2.00 | 3.00 |"


def test_csv_has_every_field(tmp_path):
    write_csv(MEASURED, tmp_path / "table.csv")
    with open(tmp_path / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert Measurement(rows[0].pop("image"), *(float(value) for value in rows[0].values())) == MEASURED[0]  # type: ignore
    assert rows[1]["image"] == "b|c.png" and rows[1]["ms_ssim"] == "nan"
