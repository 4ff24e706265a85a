"""The tables of README, documentation and cards are what was measured of the bundled weights."""

import importlib.util
import json
from pathlib import Path

import pytest
from PIL import Image

from ulcompress.evaluation import Curve, Plan
from ulcompress.pretrained import save

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def loaded():
    spec = importlib.util.spec_from_file_location("tables", EXPERIMENTS / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tables = loaded()
MEASURED = tables.read_results(tables.RESULTS)
METRICS = [
    {"name": "psnr", "label": "PSNR (dB)", "better": "higher", "scope": "image", "missing": None},
    {"name": "lpips-alex", "label": "LPIPS (AlexNet)", "better": "lower", "scope": "image", "missing": None},
    {"name": "frechet-x-128", "label": "Fréchet distance (x, patches of 128 pixels)", "better": "lower",
     "scope": "set", "missing": None},
]  # fmt: skip


def part(*contestants):
    """Means of contestants: name, curve, settings, what it is matched to, bytes, bpp, numbers of the metrics."""
    return {
        "dataset": "kodak",
        "metrics": METRICS,
        "contestants": [
            {"name": name, "curve": curve, "kind": "anchor" if matched else "codec", "settings": settings,
             "matched_to": matched}
            for name, curve, settings, matched, *_ in contestants
        ],
        "summary": [
            {"contestant": name, "bytes": size, "bpp": bpp, "decode_seconds": 0.456,
             "metrics": {one["name"]: value and {"value": value} for one, value in zip(METRICS, values, strict=True)}}
            for name, _, _, _, size, bpp, *values in contestants
        ],
    }  # fmt: skip


@pytest.fixture
def measured():
    rates = part(
        ("a rate=1", "a", {"rate": 1}, None, 404.4, 0.00823, 20.744, 0.60213, 566.4),
        ("avif at a rate=1", "avif", {}, "a rate=1", 400.0, 0.0081, 19.9, 0.7, 729.0),
        ("jpeg at a rate=1", "jpeg", {}, "a rate=1", 399.0, 0.0081, 20.744, 0.8, None),
        ("a rate=2", "a", {"rate": 2}, None, 1334.0, 0.0271, 22.88, 0.447, 449.0),
    )
    steps = part(
        ("a rate=2,steps=1", "a", {"rate": 2, "steps": 1}, None, 1334.0, 0.0271, 22.88, 0.447, 449.0),
        ("a rate=2,steps=4", "a", {"rate": 2, "steps": 4}, None, 1334.0, 0.0271, 21.1, 0.4, 300.0),
        ("a rate=2,without=text", "a", {"rate": 2, "without": ["text"]}, None, 1331.0, 0.027, 22.9, 0.45, 450.0),
    )
    return {"a": {"rates": rates, "steps": steps}}


def lines(kind, measured, anchors=None):
    return tables.KINDS[kind](list(measured.values()), anchors).splitlines()


@pytest.mark.parametrize("path", tables.documents(), ids=lambda path: str(path.relative_to(tables.ROOT)))
def test_documents_show_what_was_measured(path):
    text = path.read_text()
    assert text == tables.filled(text, MEASURED), "python experiments/tables.py writes the tables"
    for _, kind, codecs, _, _ in tables.BLOCK.findall(text):
        assert kind in tables.KINDS and set(codecs.split(",")) <= set(tables.CODECS)


@pytest.mark.parametrize("name", MEASURED)
def test_what_was_measured_are_the_bundled_weights(name):
    advice = f"measure the new weights: python experiments/tables.py KODAK --weights DIR --codec {name}"
    assert MEASURED[name]["weights"] == tables.weights_of(name), advice


def test_each_rate_stands_above_its_anchors_and_the_best_number_is_bold(measured):
    assert lines("rates", measured) == [
        "| codec | bytes | bpp | PSNR (dB) | LPIPS (AlexNet) | Fréchet (x) |",
        "| :-- | --: | --: | --: | --: | --: |",
        "| `a`, rate 1 | 404 | 0.0082 | **20.74** | **0.6021** | **566** |",
        "| AVIF | 400 | 0.0081 | 19.90 | 0.7000 | 729 |",
        "| JPEG | 399 | 0.0081 | **20.74** | 0.8000 |  |",
        "| `a`, rate 2 | 1334 | 0.0271 | 22.88 | 0.4470 | 449 |",
    ]
    assert [line.split(" | ")[0] for line in lines("rates", measured, ["jpeg"])[2:]] == [
        "| `a`, rate 1",
        "| JPEG",
        "| `a`, rate 2",
    ]


def test_steps_have_a_line_each(measured):
    assert lines("steps", measured)[2:] == [
        "| `a`, rate 2, 1 step | 1334 | 0.0271 | 22.88 | 0.4470 | 449 | 0.46 |",
        "| `a`, rate 2, 4 steps | 1334 | 0.0271 | 21.10 | **0.4000** | **300** | 0.46 |",
        "| `a`, rate 2, without text | 1331 | 0.0270 | **22.90** | 0.4500 | 450 | 0.46 |",
    ]


def test_published_points_of_similar_rates_stand_beside_ours_in_the_order_of_lpips(measured):
    del measured["a"]["rates"]["contestants"][:3]
    heading, _, *rows = lines("published", measured)
    assert heading == "| codec | bpp | PSNR (dB) | LPIPS (AlexNet) | source |"
    cells = [row.removeprefix("| ").split(" | ") for row in rows]
    assert [line[:4] for line in cells if line[4].startswith("measured")] == [
        ["**`a`, rate 2**", "0.0271", "22.88", "0.4470"]
    ]
    assert ["PerCo (SD)", "0.0324", "19.53", "0.2965"] in [line[:4] for line in cells]
    assert all(0.0271 / 1.25 < float(line[1]) < 0.0271 * 1.25 for line in cells)
    distances = [float(line[3]) for line in cells if line[3]]
    assert distances == sorted(distances) and len(distances) > 8


def test_a_table_is_replaced_where_its_codec_was_measured(measured):
    text = "above\n<!-- table: rates a avif -->\nold\n<!-- end of table -->\n"
    text += "<!-- table: rates b -->\nold\n<!-- end of table -->\n"
    new = tables.filled(text, measured)
    assert new.count("old") == 1 and "| AVIF |" in new and "| JPEG |" not in new
    assert new.startswith("above\n<!-- table: rates a avif -->\n\n| codec |") and tables.filled(new, measured) == new


@pytest.mark.filterwarnings("ignore:MS-SSIM needs")
def test_a_codec_is_measured_at_its_rates_beside_anchors_and_in_its_ways_of_decoding(tiny_staged_codec, tmp_path):
    save(tiny_staged_codec, tmp_path / "a")
    Image.radial_gradient("L").resize((64, 48)).convert("RGB").save(tmp_path / "image.png")
    plan = Plan(
        images={"image": tmp_path / "image.png"},
        curves=(Curve("a", (str(tmp_path / "a"),)),),
        out=tmp_path / "out",
        anchors=("jpeg",),
        metrics=("psnr",),
        threads=1,
        keep=True,
    )
    found = tables.measure(plan, tiny_staged_codec, [1, 2])
    count = tiny_staged_codec.quantizer.rates
    assert json.loads(json.dumps(found)) == found and "command" not in found["rates"]
    names = [one["name"] for one in found["rates"]["contestants"]]
    assert names == [name for rate in range(1, count + 1) for name in (f"a rate={rate}", f"jpeg at a rate={rate}")]
    ways = [one["settings"] for one in found["steps"]["contestants"] if one["settings"]["rate"] == 1]
    assert [{key: value for key, value in way.items() if key not in ("codec", "rate")} for way in ways][:2] == [
        {"steps": 1},
        {"steps": 2},
    ]
    assert len(lines("rates", {"a": found})) == 2 + 2 * count
    assert "data:image/webp" in (tmp_path / "out" / "index.html").read_text()
    assert tables.measure(plan, tiny_staged_codec, [])["steps"]["contestants"] == []
