import numpy as np
import pytest

from ulcompress.evaluation.results.comparison import Point, compare
from ulcompress.evaluation.results.runs import compare_runs

IMAGES = ["a", "b", "c", "d"]


def evaluation(name, psnr, *, fid=50.0, images=IMAGES, **settings):
    """The content of `results.json` of one codec beside an anchor."""
    contestants = [(name, "codec"), (f"jpeg at {name}", "anchor")]
    values = dict(zip(images, psnr, strict=True))
    return {
        "metrics": [
            {"name": "psnr", "better": "higher", "scope": "image", "missing": None},
            {"name": "fid", "better": "lower", "scope": "set", "missing": None},
            {"name": "dists", "better": None, "scope": None, "missing": "weights are wanted"},
        ],
        "images": [{"name": image} for image in images],
        "contestants": [{"name": n, "kind": kind, "settings": {"codec": name, **settings}} for n, kind in contestants],
        "results": [
            {"contestant": n, "image": image, "bpp": 0.1, "metrics": {"psnr": value if n == name else 0.0}}
            for n, _ in contestants
            for image, value in values.items()
        ],
        "summary": [
            {"contestant": n, "bpp": 0.1, "metrics": {"fid": {"value": fid}, "dists": None}} for n, _ in contestants
        ],
    }


def test_runs_are_paired_by_seed_and_images_by_name():
    rng = np.random.default_rng(0)
    base, variant = rng.normal(25, 1, (3, 4)), rng.normal(26, 1, (3, 4))
    of_base = [evaluation(f"base-{seed}", values) for seed, values in enumerate(base)]
    turned = [evaluation(f"text-{s}", values[::-1], images=IMAGES[::-1]) for s, values in enumerate(variant)]
    found = compare_runs(of_base, turned, "psnr")
    rates = np.full((3, 4), 0.1)
    assert found == compare([Point(rates, base)], [Point(rates, variant)], better="higher")
    assert (found.seeds, found.images, found.kind) == (3, 4, "equal rate")


def test_images_that_a_run_lacks_are_left_out():
    short = evaluation("v", [21, 22], images=["a", "c"])
    found = compare_runs([evaluation("b", [20, 30, 20, 30])], [short], "psnr")
    assert (found.images, found.difference, found.seeds) == (2, pytest.approx(1.5), 1)


def test_a_metric_of_sets_has_one_value_a_run():
    base = [evaluation("b", [20] * 4, fid=value) for value in (50.0, 52.0, 51.0)]
    variant = [evaluation("v", [20] * 4, fid=value) for value in (48.0, 51.0, 49.0)]
    found = compare_runs(base, variant, "fid")
    assert (found.difference, found.wins, found.seeds) == (pytest.approx(-5 / 3), None, 3)
    assert found.low < -5 / 3 < found.high
    assert compare_runs(base[:1], variant[:1], "fid").low is None


def test_what_cannot_be_paired_is_refused():
    one = evaluation("b", [20] * 4)
    with pytest.raises(ValueError, match="got 1 runs of the base and 2 of the variant"):
        compare_runs([one], [one, one], "psnr")
    with pytest.raises(ValueError, match="got the metric 'dists'; an evaluation has psnr, fid"):
        compare_runs([one], [one], "dists")
    with pytest.raises(ValueError, match="no image was coded in all runs"):
        compare_runs([one], [evaluation("v", [1], images=["z"])], "psnr")
    with pytest.raises(ValueError, match="got runs of one variant at other settings"):
        compare_runs([one, one], [one, evaluation("v", [20] * 4, steps=2)], "psnr")
