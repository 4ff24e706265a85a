"""Measures the bundled codecs, and writes the tables of README, documentation and model cards from what was measured.

    python experiments/tables.py KODAK --weights DIR                   measures both codecs, writes all tables
    python experiments/tables.py KODAK --weights DIR --codec mini      the same of one
    python experiments/tables.py                                       writes the tables from what was measured before

A codec is measured at each of its rates, beside anchors at the same bytes, and at each rate with several numbers of
steps and without each of its streams. DIR has the networks as `experiments/networks.py` writes them (lpips,
inception-v3, efficientnet-lite0). What was measured lies in runs/tables/NAME, so that an interrupted command goes on
when it is typed again; index.html there shows all images, and curves with published points of others, in one file. The
means go to docs/results/NAME.json with the hash of the weights they are of, and a test tells when these are others.

In a document a table stands between two comments and is replaced as a whole:

    <!-- table: KIND CODEC,... [ANCHOR,...] -->
    <!-- end of table -->

KIND is `rates` (each rate and its anchors; of these all, or those that are named), `steps` or `published` (points of
other codecs at similar rates).
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import ulcompress
from ulcompress.codec import Codec
from ulcompress.evaluation import Curve, Plan, Setting, gather, name_images, prepare, run, write_results
from ulcompress.evaluation.metrics.weights import hashes
from ulcompress.evaluation.results.published import published
from ulcompress.evaluation.results.table import Column, Table
from ulcompress.files import write_whole
from ulcompress.images import find_images
from ulcompress.pretrained import bundled_codecs

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs/results"
CODECS = {directory.name: directory for directory in bundled_codecs()}
METRICS = ("psnr", "ms-ssim", "lpips-alex", "lpips-vgg", "dists")
METRICS += ("frechet-inception-v3-128", "frechet-efficientnet-lite0-128")
ANCHORS = {"avif": "AVIF", "webp": "WebP", "jxl": "JPEG XL", "jpeg2000": "JPEG 2000", "jpeg": "JPEG"}
"""Names for readers of the anchors that are measured by default."""
STEPS = (0, 1, 2, 4, 8)
"""Numbers of steps; 0 gives the estimate, where a codec has one."""
KEPT = ("created", "dataset", "versions", "machine", "metrics", "contestants", "summary", "failed")
"""What of the content of `results.json` goes to the means."""
EMBED = 768
"""Most pixels across of the images in the page of an evaluation."""
NEAR = 1.25
"""Factor by which the rate of a published point may differ from ours in one table."""
BLOCK = re.compile(r"(<!-- table: (\w+) (\S+)(?: (\S+))? -->\n).*?(<!-- end of table -->)", re.S)

Measured = Mapping[str, Any]
"""The content of one docs/results/NAME.json: hash of the weights, and the means over `rates` and over `steps`."""
Row = Mapping[str, Any]
"""A line of a table: `codec`, and numbers by the names of metrics and of `bytes`, `bpp`, `decode_seconds`."""


def main() -> None:
    """Measure what is asked for, and write all tables."""
    parser = argparse.ArgumentParser(description="Measure the bundled codecs, and write their tables.")
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="images and folders; none: tables alone")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="folder of the metrics' networks")
    parser.add_argument("--codec", nargs="+", choices=CODECS, default=list(CODECS), help="(default: all bundled ones)")
    parser.add_argument("--anchor", nargs="*", default=list(ANCHORS), metavar="NAME", help="(default: %(default)s)")
    parser.add_argument("--steps", nargs="*", type=int, default=STEPS, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--metrics", nargs="+", default=METRICS, metavar="NAME", help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/tables"), help="measurements (default: %(default)s)")
    parser.add_argument(
        "--results", type=Path, help="means; no table is written (default: docs/results, and all tables)"
    )
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="processes that share the images out")
    options = parser.parse_args()
    folder = options.results or RESULTS
    for name in options.codec if options.images else ():
        plan = Plan(
            images=name_images(find_images(options.images)),
            curves=(Curve(name, (name,)),),
            out=options.out / name,
            anchors=tuple(options.anchor),
            metrics=tuple(options.metrics),
            weights=options.weights,
            device=options.device,
            processes=options.devices,
            keep=True,
        )
        measured = measure(plan, ulcompress.load(name), options.steps) | {"weights": weights_of(name)}
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / f"{name}.json", f"{json.dumps(measured, indent=1, ensure_ascii=False)}\n".encode())
    results = read_results(folder)
    for path in documents() if folder == RESULTS else ():
        if (text := filled(path.read_text(), results)) != path.read_text():
            write_whole(path, text.encode())
            print(path.relative_to(ROOT))


def measure(plan: Plan, codec: Codec, steps: Sequence[int]) -> dict[str, Any]:
    """Measure a codec at its rates with the plan's anchors, and its ways of decoding without them; return the means."""
    rates = (
        [Setting(rate=rate) for rate in range(1, codec.quantizer.rates + 1)]
        if codec.quantizer.rates > 1
        else [Setting()]
    )
    sent = [name for name, part in codec.conditioners.items() if part.sends and "text" not in part.provides]
    ways = [*(Setting(steps=count) for count in steps), *(Setting(without=(name,)) for name in sent)]
    at_rates = evaluated(replace(plan, settings=tuple(rates)))
    write_results(at_rates, plan.out, embed=EMBED)
    settings = tuple(rate | way for rate in rates for way in ways)
    none = at_rates | {"contestants": [], "summary": [], "failed": []}
    in_ways = evaluated(replace(plan, settings=settings, anchors=())) if settings else none
    return {"rates": means(at_rates), "steps": means(in_ways)}


def evaluated(plan: Plan) -> dict[str, Any]:
    """Return the content of `results.json` for a plan."""
    evaluation = prepare(plan)
    return gather(evaluation, run(evaluation))


def means(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of the results is not of single images."""
    return {key: results[key] for key in KEPT}


def weights_of(name: str) -> str:
    """Return the SHA-256 of a bundled codec's weights."""
    return hashes(CODECS[name] / "model.safetensors")["model.safetensors"]


def read_results(folder: Path) -> dict[str, Measured]:
    """Return what was measured, by codec."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def documents() -> list[Path]:
    """Return the files that may show tables."""
    return [
        ROOT / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *(path / "README.md" for path in CODECS.values()),
    ]


def filled(text: str, results: Mapping[str, Measured]) -> str:
    """Return a document with its tables; one of a codec that was not measured stays as it is."""

    def block(found: re.Match[str]) -> str:
        begin, kind, codecs, anchors, end = found.groups()
        names = codecs.split(",")
        if any(name not in results for name in names):
            return str(found[0])
        table = KINDS[kind]([results[name] for name in names], anchors.split(",") if anchors else None)
        return f"{begin}\n{table}\n{end}"

    return BLOCK.sub(block, text)


def rates_table(measured: Sequence[Measured], anchors: Sequence[str] | None) -> str:
    """Return the table of all rates, each with its anchors, the best of each metric in bold."""
    groups = []
    for part in (codec["rates"] for codec in measured):
        for codec in (one for one in part["contestants"] if one["kind"] == "codec"):
            beside = [one for one in part["contestants"] if one["matched_to"] == codec["name"]]
            shown = [codec, *(one for one in beside if anchors is None or one["curve"] in anchors)]
            groups.append([row(part, one["name"], named(one)) for one in shown])
    return markdown(groups, measured[0]["rates"]["metrics"], ("bytes", "bpp"))


def steps_table(measured: Sequence[Measured], anchors: Sequence[str] | None) -> str:
    """Return the table of the ways of decoding the files of each rate."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for part in (codec["steps"] for codec in measured):
        for one in part["contestants"]:
            group = groups.setdefault((one["curve"], one["settings"].get("rate", 1)), [])
            group.append(row(part, one["name"], f"{named(one)}, {way(one['settings'])}"))
    return markdown(list(groups.values()), measured[0]["steps"]["metrics"], ("bytes", "bpp"), ("decode_seconds",))


def published_table(measured: Sequence[Measured], anchors: Sequence[str] | None) -> str:
    """Return the table of all rates, each with the points of others at similar rates, by LPIPS."""
    metrics = [one for one in measured[0]["rates"]["metrics"] if one["scope"] == "image"]
    groups = []
    for part in (codec["rates"] for codec in measured):
        others = points_of_others(part["dataset"], [one["name"] for one in metrics])
        for codec in (one for one in part["contestants"] if one["kind"] == "codec"):
            ours = row(part, codec["name"], f"**{named(codec)}**") | {"source": "measured here"}
            near = [one for one in others if abs(math.log(one["bpp"] / ours["bpp"])) <= math.log(NEAR)]
            groups.append(sorted([ours, *near], key=lambda one: one.get("lpips-alex") or math.inf))
    return markdown(groups, metrics, ("bpp",), ("source",), best=False)


def points_of_others(dataset: str | None, metrics: Iterable[str]) -> list[Row]:
    """Return published points as rows."""
    rows: dict[tuple[str, str, float], dict[str, Any]] = {}
    for point in published(dataset, list(metrics)):
        source = f"{point['source']} ({point['protocol']})"
        start = {"codec": point["system"], "bpp": point["bpp"], "source": source}
        rows.setdefault((point["system"], source, point["bpp"]), start)[point["metric"]] = point["value"]
    return list(rows.values())


KINDS = {"rates": rates_table, "steps": steps_table, "published": published_table}
"""What writes each kind of table."""


def row(part: Mapping[str, Any], contestant: str, name: str) -> dict[str, Any]:
    """Return the numbers of a contestant."""
    (found,) = (one for one in part["summary"] if one["contestant"] == contestant)
    values = {metric: value and value["value"] for metric, value in found["metrics"].items()}
    return {key: found[key] for key in ("bytes", "bpp", "decode_seconds")} | values | {"codec": name}


def named(contestant: Mapping[str, Any]) -> str:
    """Return a contestant's name for readers."""
    if contestant["kind"] == "anchor":
        return ANCHORS.get(contestant["curve"]) or str(contestant["curve"])
    rate = contestant["settings"].get("rate")
    return f"`{contestant['curve']}`" + (f", rate {rate}" if rate else "")


def way(settings: Mapping[str, Any]) -> str:
    """Return how files were decoded, for readers."""
    if "without" in settings:
        return f"without {' and '.join(settings['without'])}"
    return f"{settings['steps']} step{'s' * (settings['steps'] != 1)}"


def markdown(
    groups: Sequence[Sequence[Row]],
    metrics: Sequence[Mapping[str, Any]],
    first: Sequence[str],
    last: Sequence[str] = (),
    *,
    best: bool = True,
) -> str:
    """Return rows as a table of the columns `codec`, `first`, metrics, `last`; the best of a group is in bold."""
    known = {one["name"]: one for one in metrics if one["missing"] is None}
    cells = [cell for group in groups for cell in (group_of_cells(group, known) if best else map(plain, group))]
    labels = {"bytes": "bytes", "bpp": "bpp", "decode_seconds": "decode (s)", "source": "source"}
    labels |= {name: heading(one["label"]) for name, one in known.items()}
    columns = [Column(itemgetter("codec"), heading="codec", text=True)]
    columns += [
        Column(lambda line, name=name: line.get(name, ""), heading=labels[name], text=name == "source")
        for name in (*first, *known, *last)
    ]
    return Table("", columns, cells).markdown.lstrip()


def group_of_cells(group: Sequence[Row], metrics: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the cells of rows, those that have the best number of a metric in bold."""
    cells = [plain(one) for one in group]
    for name, metric in metrics.items():
        numbers = [one[name] for one in group if one.get(name) is not None]
        if len(numbers) < 2:
            continue
        winner = written(name, (max if metric["better"] == "higher" else min)(numbers))
        for one in cells:
            one[name] = f"**{winner}**" if one[name] == winner else one[name]
    return cells


def plain(numbers: Row) -> dict[str, str]:
    """Return the cells of a row."""
    return {name: written(name, value) for name, value in numbers.items()}


def written(name: str, value: Any) -> str:
    """Write a number: whole bytes, bpp to four digits behind the point, others to about four digits in all."""
    if value is None or isinstance(value, str):
        return value or ""
    digits = {"bytes": 0, "bpp": 4, "decode_seconds": 2}
    return f"{value:.{digits.get(name, 4 if abs(value) < 1 else 2 if abs(value) < 100 else 0)}f}"


def heading(label: str) -> str:
    """Shorten the label of a metric."""
    return label.replace("Fréchet distance", "Fréchet").replace(", patches of 128 pixels", "")


if __name__ == "__main__":
    main()
