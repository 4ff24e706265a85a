"""Images that go through the networks of metrics together."""

import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ulcompress.commands.main import run as command
from ulcompress.evaluation import Curve, Evaluation, Plan, gather, name_images, prepare, run
from ulcompress.evaluation.measuring.contestants import CodecContestant
from ulcompress.evaluation.measuring.measuring import how
from ulcompress.evaluation.measuring.run import measure_share
from ulcompress.evaluation.metrics import METRICS, Perceptual
from ulcompress.evaluation.results.store import Store
from ulcompress.images import read_image
from ulcompress.losses import FeatureDistance
from ulcompress.pretrained import save

NETWORKS = ("feature-distance-squeezenet1_1", "frechet-squeezenet1_1")
ORIENTATION, TURNED = 0x0112, 6
"""The EXIF tag, and what it says of a picture that has to be turned by a quarter."""


@pytest.fixture
def plan(tiny_codec, squeezenet, tmp_path):
    """Seven images: five whose headers say 60 x 40 pixels, one of them to be turned; two of 50 x 33."""
    save(tiny_codec, tmp_path / "tiny")
    (tmp_path / "weights").mkdir()
    shutil.copy(squeezenet, tmp_path / "weights" / "squeezenet1_1.safetensors")
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c.png", "d.jpg", "e.png", "f.png", "g.png"):
        picture = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
        picture = picture.resize((50, 33) if name[0] in "bf" else (60, 40), Image.Resampling.BICUBIC)
        exif = Image.Exif()
        exif[ORIENTATION] = TURNED
        picture.save(tmp_path / "photos" / name, **({"exif": exif} if name == "d.jpg" else {}))
    return Plan(
        images=name_images(sorted((tmp_path / "photos").iterdir())),
        curves=(Curve("tiny", (str(tmp_path / "tiny"),)),),
        out=tmp_path / "out",
        anchors=("jpeg",),
        metrics=("psnr", *NETWORKS),
        weights=tmp_path / "weights",
        threads=1,
        batch=3,
    )


@pytest.fixture
def sizes(monkeypatch):
    """How many images the feature distance has taken at once, one number a call."""
    seen, batch = [], Perceptual.batch
    monkeypatch.setattr(Perceptual, "batch", lambda self, pairs: seen.append(len(pairs)) or batch(self, pairs))
    return seen


def numbers(plan, outcomes=()):
    """All numbers of all metrics."""
    results = gather(prepare(plan), outcomes)
    single = {(row["contestant"], row["image"]): row["metrics"] for row in results["results"]}
    return single, {row["contestant"]: row["metrics"][NETWORKS[1]]["value"] for row in results["summary"]}


def again(plan, **changes):
    return replace(plan, out=plan.out.with_name("again"), **changes)


def close(one, other):
    (single, of_set), (single_, of_set_) = one, other
    assert single.keys() == single_.keys()
    for key, row in single.items():
        assert row == pytest.approx(single_[key], rel=1e-4)
    assert of_set == pytest.approx(of_set_, rel=1e-4)


def test_batches_give_the_numbers_of_one_by_one(plan, sizes):
    outcomes = run(prepare(plan))
    assert not any(outcome.error for outcome in outcomes) and len(outcomes) == 14
    # Of 60 x 40 there are a, c and d, which is turned, then e and g; of 50 x 33 b and f.
    assert sizes == [2, 1, 2, 1, 2, 2, 2, 2]  # each through the codec, then through the anchor
    alone = again(plan, batch=1)
    run(prepare(alone))
    close(numbers(plan), numbers(alone))
    assert [gather(prepare(each), [])["machine"]["batch"] for each in (plan, alone)] == [3, 1]


def test_the_maps_of_an_original_are_made_once_for_all_that_is_compared_with_it(plan, monkeypatch):
    made, evaluate = [], FeatureDistance.evaluate
    monkeypatch.setattr(FeatureDistance, "evaluate", lambda self, images: made.append(images) or evaluate(self, images))
    run(prepare(again(plan, batch=1)))
    assert len(made) == 7 * (1 + 2)


def test_two_processes_give_the_numbers_of_one(plan):
    plan = replace(plan, batch=2)
    run(prepare(plan))
    shared, shares = again(plan), [[], []]
    for rank, share in enumerate(shares):  # in this process; test_run starts others
        measure_share(Evaluation(shared, rank=rank, world=2), share.append)
    images = [{outcome.image for outcome in share} for share in shares]
    assert images == [{"a", "c", "g"}, {"b", "d", "e", "f"}]
    assert numbers(shared) == numbers(plan)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(
    ("owner", "step", "calls"), [(CodecContestant, "code", 2), (Store, "save", 2), (Store, "save", 9)]
)
def test_an_interruption_leaves_no_trace(plan, monkeypatch, keep, owner, step, calls):
    plan = replace(plan, keep=keep)
    run(prepare(plan))
    function, count = getattr(owner, step), itertools.count(1)

    def interrupted(*arguments):
        if next(count) == calls:
            raise KeyboardInterrupt
        return function(*arguments)

    monkeypatch.setattr(owner, step, interrupted)
    continued = again(plan)
    with pytest.raises(KeyboardInterrupt):
        run(prepare(continued))
    run(prepare(continued))
    assert numbers(continued) == numbers(plan)
    assert all(outcome.known for outcome in run(prepare(continued)))


def test_a_batch_is_in_the_order_of_its_images_whoever_is_wanting(plan, monkeypatch):
    plan = replace(plan, anchors=())
    run(prepare(plan))
    (plan.out / "records" / "tiny" / "c.json").unlink()
    seen, batch = [], Perceptual.batch
    monkeypatch.setattr(Perceptual, "batch", lambda self, pairs: seen.append(pairs) or batch(self, pairs))
    run(prepare(plan))
    originals = [[pair.original for pair in pairs] for pairs in seen]
    assert [len(pairs) for pairs in originals] == [2, 1]  # d is turned
    assert all(map(torch.equal, originals[0], (read_image(plan.images[name]) for name in "ac")))


def test_a_group_is_saved_when_all_of_it_is_measured(plan, monkeypatch):
    monkeypatch.setattr(Perceptual, "batch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(prepare(plan))
    assert not (plan.out / "records").exists()


def test_broken_files_cost_their_groups_nothing(plan, sizes):
    plan.images["a"].write_bytes(b"no image")
    plan.images["e"].write_bytes(plan.images["e"].read_bytes()[:-200])  # the header is whole
    outcomes = run(prepare(plan))
    errors = {(outcome.contestant, outcome.image): outcome.error for outcome in outcomes if outcome.error}
    assert set(errors) == {(contestant, image) for contestant in ("tiny", "jpeg at tiny") for image in "ae"}
    assert "a.png: not an image of a known format" in errors["tiny", "a"]
    assert "e.png: truncated or damaged" in errors["tiny", "e"]
    assert errors["jpeg at tiny", "e"] == "tiny has no file of it to match"
    assert sizes == [2, 2, 1, 1, 1, 1, 1, 1]  # b with f, c, d, which is turned, g
    alone = again(plan, batch=1)
    assert {(o.contestant, o.image): o.error for o in run(prepare(alone)) if o.error} == errors
    close(numbers(plan, outcomes), numbers(alone, outcomes))
    # The broken are looked at again; those beside them are not.
    sizes.clear()
    assert {outcome.image for outcome in run(prepare(plan)) if not outcome.known} == {"a", "e"} and not sizes


def test_what_a_batch_cannot_take_is_the_error_of_all_in_it(plan, monkeypatch):
    batch = Perceptual.batch

    def small(self, pairs):
        if len(pairs) > 1 and pairs[0].original.shape[2] == 50:
            raise RuntimeError("out of memory")
        return batch(self, pairs)

    monkeypatch.setattr(Perceptual, "batch", small)
    failed = {(o.image, o.error) for o in run(prepare(plan)) if o.error and o.contestant == "tiny"}
    assert failed == {("b", "RuntimeError: out of memory"), ("f", "RuntimeError: out of memory")}


def test_what_one_image_stops_is_its_own_error(plan, monkeypatch):
    monkeypatch.setattr("ulcompress.evaluation.metrics.fidelity.psnr", lambda one, _: 1 / (one.shape[1] - 60))
    failed = {(o.image, o.error) for o in run(prepare(replace(plan, anchors=()))) if o.error}
    assert failed == {("d", "ZeroDivisionError: division by zero")}  # the one that is 60 pixels high


def test_an_image_that_joins_is_measured_with_its_group(plan, sizes):
    plan = replace(plan, anchors=(), keep=True)
    images = dict(plan.images)
    g = images.pop("g")
    run(prepare(replace(plan, images=images)))
    sizes.clear()
    outcomes = run(prepare(replace(plan, images={**images, "g": g})))
    assert {outcome.image for outcome in outcomes if not outcome.known} == {"e", "g"} and sizes == [2]
    continued = numbers(plan)
    whole = again(plan)
    run(prepare(whole))
    assert continued == numbers(whole)


def test_the_size_of_batches_decides_only_what_is_measured_in_them(plan):
    distance, psnr = METRICS[NETWORKS[0]](plan.weights, "cpu"), METRICS["psnr"](None, "cpu")
    assert how(distance, 1) != how(distance, 2) != how(distance, 3) and how(psnr, 1) == how(psnr, 3)
    plan = replace(plan, anchors=(), metrics=("psnr",))
    run(prepare(replace(plan, batch=1)))
    assert all(outcome.known for outcome in run(prepare(plan)))


def test_the_command(plan):
    words = ["evaluate", str(plan.images["a"]), "--codec", f"tiny={plan.curves[0].codecs[0]}", "--out", str(plan.out)]
    assert command([*words, "--threads", "1", "--batch", "2"]) == 0
    assert json.loads((plan.out / "results.json").read_text())["machine"]["batch"] == 2
