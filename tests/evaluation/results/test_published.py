from itertools import groupby, pairwise

import pytest

from ulcompress.evaluation.metrics import METRICS
from ulcompress.evaluation.results.published import datasets, published, recognise

DATASETS = ("kodak", "kodak-512", "clic2020-test", "clic-professional", "div2k-valid", "coco-30k-512")
RANGES = {"psnr": (10, 38), "ms-ssim": (0.2, 1), "dists": (0.02, 0.35), "lpips-alex": (0.04, 0.7)} | {
    "lpips-vgg": (0.05, 0.35),
    "fid": (0.5, 20),
    "fid-256-half-shift": (1, 50),
    "kid": (0.00005, 0.002),
    "kid-256-half-shift": (0.0001, 0.004),
}
EVIDENCE = ("exact", "digitised", "view")


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_point_has_a_source_a_known_metric_and_a_sane_value(dataset):
    points = published(dataset, METRICS)
    assert points
    for point in points:
        assert set(point) == {"system", "dataset", "metric", "bpp", "value", "source", "protocol"}
        assert point["dataset"] == dataset and point["source"] and point["protocol"].split(";")[0] in EVIDENCE
        low, high = RANGES[point["metric"]]
        assert low < point["value"] < high and 0.0002 < point["bpp"] < 1, point


@pytest.mark.parametrize("dataset", DATASETS)
def test_systems_are_listed_from_low_rates_to_high_ones_and_get_better(dataset):
    points = published(dataset, METRICS)
    for _, group in groupby(points, lambda point: (point["system"], point["metric"], point["source"])):
        assert all(early["bpp"] < late["bpp"] for early, late in pairwise(list(group)))
    exact = [point for point in points if point["protocol"].startswith("exact")]
    for system in {point["system"] for point in exact} - {"Text+Sketch", "CoD, latent, 25 steps"}:
        own = [p for p in exact if p["system"] == system and p["metric"] == "lpips-alex"]
        assert all(early["value"] > late["value"] for early, late in pairwise(own)), system


def test_numbers_that_everybody_quotes():
    def value(dataset, system, metric, bpp):
        (found,) = [
            p["value"] for p in published(dataset, [metric]) if (p["system"], p["bpp"]) == (system, pytest.approx(bpp))
        ]
        return found

    assert value("clic2020-test", "AEIC-SE", "fid-256-half-shift", 0.02821) == 2.45
    assert value("clic2020-test", "AEIC-SE", "kid-256-half-shift", 0.02821) == pytest.approx(0.000173)
    assert value("clic2020-test", "MS-ILLM", "fid-256-half-shift", 0.03462) == 6.272
    assert value("kodak", "StableCodec", "lpips-alex", 0.0341) == 0.1664
    assert value("kodak", "OneDC", "dists", 0.1115) == 0.057
    assert value("kodak", "CGDM", "lpips-vgg", 0.1579) == 0.2205
    assert value("coco-30k-512", "PerCo", "fid", 0.1271) == 1.02
    assert value("coco-30k-512", "PerCo (SD)", "kid", 0.0037) == pytest.approx(0.00096)
    assert value("div2k-valid", "AEIC-ME", "psnr", 0.03677) == 23.69


def test_only_the_metrics_that_are_asked_for_are_told():
    assert {point["metric"] for point in published("kodak", ["psnr", "dists"])} == {"psnr", "dists"}
    assert published("kodak", []) == published("kodak", ["miou"]) == []


def test_a_set_that_nobody_knows_has_no_points_and_a_wrong_name_is_refused():
    assert published(None, METRICS) == []
    with pytest.raises(ValueError, match="got the data set 'kodac'; numbers are published for kodak, kodak-512"):
        published("kodac", METRICS)


def test_another_ms_ssim_than_ours_is_left_out():
    for dataset in ("kodak", "clic-professional"):
        own = [point for point in published(dataset, METRICS) if point["system"] == "CGDM"]
        assert {point["metric"] for point in own} == {"lpips-vgg", "dists", "psnr"}


def test_data_sets():
    assert set(datasets()) == set(DATASETS)


def test_kodak_is_recognised_whole_and_at_its_size():
    images = {f"kodim{number:02}": (512, 768) if number in (4, 9, 10) else (768, 512) for number in range(1, 25)}
    assert recognise(images) == "kodak"
    assert recognise(images | {"kodim01": (512, 512)}) is None
    assert recognise(images | {"mine": (768, 512)}) is None
    assert recognise({name: size for name, size in images.items() if name != "kodim24"}) is None
    assert recognise({name.replace("kodim", "image"): size for name, size in images.items()}) is None


def test_div2k_is_recognised_as_well():
    images = {f"{number:04}": (2040, 1356) if number % 3 else (1356, 2040) for number in range(801, 901)}
    assert recognise(images) == "div2k-valid"
    assert recognise(dict.fromkeys(images, (1020, 678))) is None
    assert recognise({}) is None
