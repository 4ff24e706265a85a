"""An evaluation from files: contestants, resumption, processes, answers."""

import json
import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ulcompress.evaluation import (
    ANCHORS,
    Curve,
    Evaluation,
    Outcome,
    Plan,
    Setting,
    gather,
    name_images,
    prepare,
    run,
    write_results,
)
from ulcompress.evaluation.measuring.contestants import CodecContestant
from ulcompress.evaluation.measuring.run import measure_share, processes_of, threads_of
from ulcompress.evaluation.metrics import build
from ulcompress.evaluation.results.store import Record, Store, slug
from ulcompress.evaluation.results.summary import summary_markdown
from ulcompress.images import read_image
from ulcompress.pretrained import load, save
from ulcompress.records import Sampling

METRICS = ("psnr", "ms-ssim")
TABLES = ["results.json", "summary.csv", "differences.csv", "summary.md", "summary.tex", "index.html"]
KEPT = ("files", "images", "originals")


@pytest.fixture
def codec(tiny_codec, tmp_path):
    save(tiny_codec, tmp_path / "tiny")
    return str(tmp_path / "tiny")


@pytest.fixture
def images(tmp_path):
    """Three photographs of two sizes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, (height, width) in {"a": (40, 60), "b": (33, 50), "c": (40, 60)}.items():
        small = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
        small.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    return name_images(sorted(folder.iterdir()))


@pytest.fixture
def plan(codec, images, tmp_path):
    return Plan(
        images=images,
        curves=(Curve("tiny", (codec,)),),
        out=tmp_path / "out",
        settings=(Setting(), Setting(steps=1)),
        anchors=("jpeg",),
        metrics=METRICS,
        threads=1,
        keep=True,
    )


def numbers(results):
    """All that must not differ between two runs."""
    times = ("encode_seconds", "decode_seconds", "working_memory")
    rows = [{key: value for key, value in row.items() if key not in times} for row in results["results"]]
    return rows, [{key: value for key, value in row.items() if key not in times} for row in results["summary"]]


def evaluate(plan):
    """What one process measures of a plan, and makes of it."""
    evaluation = prepare(plan)
    return gather(evaluation, run(evaluation))


@pytest.fixture
def built(monkeypatch):
    """Names of what this process has built, once for each time."""
    found = []

    def counted(name, function):
        return lambda *args, **options: found.append(name) or function(*args, **options)

    contestants, evaluation = (
        "ulcompress.evaluation.measuring.contestants",
        "ulcompress.evaluation.measuring.evaluation",
    )
    monkeypatch.setattr(f"{contestants}.load", counted("codec", load))
    monkeypatch.setattr(f"{evaluation}.load", counted("encoder", load))
    monkeypatch.setattr(f"{evaluation}.build", counted("metrics", build))
    monkeypatch.setattr(f"{evaluation}.ANCHORS", {name: counted(name, make) for name, make in ANCHORS.items()})
    return found


def test_a_process_builds_codecs_anchors_and_metrics_once(plan, built):
    evaluation = prepare(plan)
    results = gather(evaluation, run(evaluation))
    assert len(results["results"]) == 12 and sorted(built) == ["codec", "jpeg", "metrics"]


def test_several_codecs_are_loaded_one_after_another_and_once_each(plan, codec, built):
    shutil.copytree(codec, other := f"{codec}-other")
    results = evaluate(replace(plan, curves=(*plan.curves, Curve("other", (other,)))))
    assert len(results["results"]) == 24 and built.count("codec") == 2


def test_streams_and_rates_are_checked_without_a_decoder(plan, built):
    evaluate(replace(plan, settings=(Setting(without=("text",)), Setting(steps=1)), anchors=()))
    assert sorted(built) == ["codec", "encoder", "metrics"]


def test_each_of_several_processes_builds_its_own_from_a_plan(plan, built):
    plan = pickle.loads(pickle.dumps(replace(plan, processes=2)))
    first = prepare(plan)
    assert built == ["jpeg"] and first.device == "cpu"  # what starts the others neither codes nor measures
    for rank in range(2):
        measure_share(Evaluation(plan, rank=rank, world=2), [].append)
    # One codec is shared here, where both are one process.
    assert built.count("metrics") == 2 and built.count("jpeg") == 3 and built.count("codec") == 1
    assert len(gather(first, [])["results"]) == 12
    assert built.count("metrics") == 3 and built.count("jpeg") == 3 and built.count("codec") == 1


def test_numbers_are_those_of_the_files(plan, codec):
    outcomes = run(prepare(plan))
    results = gather(prepare(plan), outcomes, command="ulcompress evaluate")
    names = ["tiny", "jpeg at tiny", "tiny steps=1", "jpeg at tiny steps=1"]
    assert [row["contestant"] for row in results["summary"]] == names and len(results["results"]) == 12
    ours = load(codec)
    for row in results["results"]:
        data, restored = ((plan.out / row[key]) for key in ("file", "restored"))
        original = read_image(plan.images[row["image"]])
        assert row["bytes"] == data.stat().st_size
        assert row["bpp"] == 8 * row["bytes"] / original[0].numel()
        mse = float((read_image(restored) - original).square().mean())
        assert row["metrics"]["psnr"] == pytest.approx(-10 * math.log10(mse), abs=1e-3)
        assert row["metrics"]["ms-ssim"] is None  # too small
        if row["contestant"].startswith("tiny"):
            assert data.read_bytes() == ours.compress(original)
            steps = 1 if "steps" in row["contestant"] else None
            assert (ours.decompress(data.read_bytes(), steps=steps) - read_image(restored)).abs().max() < 0.6 / 255
        else:
            matched = next(
                other for other in results["results"]
                if (other["contestant"], other["image"]) == (row["contestant"][8:], row["image"])
            )  # fmt: skip
            assert row["bytes"] <= matched["bytes"] or not row["fits"]
    mean = np.mean([row["metrics"]["psnr"] for row in results["results"][:3]])
    value = results["summary"][0]["metrics"]["psnr"]
    assert value["value"] == pytest.approx(mean) and value["low"] <= mean <= value["high"]
    assert results["summary"][0]["metrics"]["ms-ssim"] is None
    assert results["contestants"][0]["fingerprint"] == ours.fingerprint.hex()
    json.dumps(results, allow_nan=False)


def test_what_is_done_is_not_done_again(plan, monkeypatch):
    before = numbers(evaluate(plan))
    coded = []
    code = CodecContestant.code
    monkeypatch.setattr(CodecContestant, "code", lambda self, *rest: coded.append(self.name) or code(self, *rest))
    outcomes = run(prepare(plan))
    assert (
        not coded and all(outcome.known for outcome in outcomes) and numbers(gather(prepare(plan), outcomes)) == before
    )
    record = next((plan.out / "records").rglob("b.json"))
    record.write_text(record.read_text()[:40])  # an interruption leaves none like this, a full disk may
    run(prepare(plan))
    assert len(coded) <= 1
    Image.new("RGB", (60, 40), "red").save(plan.images["a"])
    run(prepare(plan))
    assert coded.count("tiny") + coded.count("tiny steps=1") >= 2


def test_codecs_of_one_fingerprint_are_not_taken_for_each_other(tiny_codec, tmp_path):
    """A student and its teacher read each other's files."""

    def identity(name):
        return CodecContestant(codec=str(tmp_path / name), curve="", setting=Setting()).identity

    save(tiny_codec, tmp_path / "teacher")
    before = tiny_codec.fingerprint.hex()
    with torch.no_grad():
        next(tiny_codec.decoder.parameters()).add_(1)
    save(tiny_codec.named(before), tmp_path / "student")
    assert identity("teacher")["fingerprint"] == identity("student")["fingerprint"] == before
    assert identity("teacher") != identity("student")


def test_an_interruption_loses_only_the_image_at_hand(plan, monkeypatch):
    expected = numbers(evaluate(plan))
    plan = replace(plan, out=plan.out.with_name("again"))
    code, coded = CodecContestant.code, []

    def interrupted(self, *rest):
        coded.append(self.name)
        if len(coded) == 3:
            raise KeyboardInterrupt
        return code(self, *rest)

    monkeypatch.setattr(CodecContestant, "code", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(prepare(plan))
    outcomes = run(prepare(plan))
    # One image through two settings, each with its anchor, and then the next.
    assert sum(outcome.known for outcome in outcomes) == 4 and len(coded) == 3 + 4
    assert numbers(gather(prepare(plan), outcomes)) == expected


def test_another_metric_needs_no_second_coding_where_images_are_kept(plan, monkeypatch):
    run(prepare(replace(plan, metrics=("psnr",))))
    monkeypatch.setattr(CodecContestant, "code", lambda *_: pytest.fail("coded again"))
    results = evaluate(plan)
    assert set(results["results"][0]["metrics"]) == set(METRICS)


def test_two_processes_with_as_many_threads_give_the_numbers_of_one(plan):
    plan = replace(plan, curves=(Curve.parse("mini"),), settings=(Setting(steps=1),))
    one = evaluate(plan)
    plan = replace(plan, out=plan.out.with_name("two"), processes=2)
    outcomes = run(prepare(plan))
    two = gather(prepare(plan), outcomes)
    assert len(outcomes) == 6 and not any(outcome.error for outcome in outcomes)
    assert numbers(two) == numbers(one)
    assert [(r["machine"]["processes"], r["machine"]["threads"]) for r in (one, two)] == [(1, 1), (2, 1)]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the processes in /proc")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_nobody_works_on_for_a_command_that_was_killed(plan, codec, tmp_path, number, status):
    photos = str(next(iter(plan.images.values())).parent)
    command = [sys.executable, "-m", "ulcompress", "evaluate", photos, "--codec", codec, "--setting", "steps=1000"]
    process = subprocess.Popen([*command, "--devices", "2", "--out", str(tmp_path / "out")], stderr=subprocess.DEVNULL)

    def working():
        found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return [pid for pid in found if b"multiprocessing.spawn" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    deadline = time.monotonic() + 120
    while len(workers := working()) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    while not list((tmp_path / "out").rglob("*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(workers) == 2
    process.send_signal(number)
    assert process.wait(timeout=60) == status
    deadline = time.monotonic() + 5  # by themselves they would take longer
    while any(Path(f"/proc/{pid}").is_dir() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").is_dir() for pid in workers)


def test_threads_are_set_for_the_run_alone(plan, monkeypatch):
    seen, code = [], CodecContestant.code
    monkeypatch.setattr(CodecContestant, "code", lambda *a: seen.append(torch.get_num_threads()) or code(*a))
    monkeypatch.setattr("ulcompress.functional.cores.cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    run(prepare(replace(plan, anchors=(), settings=(Setting(),), threads=3)))
    assert set(seen) == {3} and torch.get_num_threads() == 1
    assert [threads_of(replace(plan, threads=None, processes=count)) for count in (1, 2, 9)] == [6, 3, 1]
    monkeypatch.setenv("WORLD_SIZE", "6")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert (processes_of(plan), threads_of(replace(plan, threads=None))) == (6, 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads_of(replace(plan, threads=None)) == 1


def test_torchrun_gives_the_numbers_of_one(plan, codec, tmp_path):
    import subprocess
    import sys

    expected = numbers(evaluate(plan))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "ulcompress",
    ]
    options = [
        "--threads",
        "1",
        "--codec",
        f"tiny={codec}",
        "--setting",
        "steps=1",
        "--batch",
        "2",
        "--anchor",
        "jpeg",
        "--out",
        str(tmp_path / "run"),
    ]
    photos = [str(path) for path in plan.images.values()]
    done = subprocess.run([*command, "evaluate", *photos, *options, "--keep"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    rows = [row for row in expected[0] if "steps=1" in row["contestant"]]
    assert numbers(results)[0] == rows


def test_images_that_one_cannot_code_are_left_out_for_all(plan, tmp_path):
    (tmp_path / "photos" / "b.png").write_bytes(b"no image")
    outcomes = run(prepare(plan))
    results = gather(prepare(plan), outcomes)
    assert results["summary"][0]["images"] == 2 and len(results["failures"]) == 4
    assert "b.png" in results["failures"][-1]["error"]
    for image in plan.images.values():
        image.write_bytes(b"no image")
    with pytest.raises(ValueError, match="no image was coded by all"):
        evaluate(plan)


def test_an_image_that_nobody_can_code_counts_as_left_out(plan, tmp_path):
    plan = replace(plan, settings=(Setting(),))
    plan.images["b"].unlink()
    text = summary_markdown(evaluate(plan))
    assert text.startswith("2 images, 1 left out;") and "left out: b through tiny: FileNotFoundError: " in text


def test_whatever_stops_an_image_does_not_stop_the_others(plan, monkeypatch):
    code = CodecContestant.code

    def failing(self, image, *rest):
        if image.shape[1] == 33:
            raise RuntimeError("out of memory\nat once")
        return code(self, image, *rest)

    monkeypatch.setattr(CodecContestant, "code", failing)
    outcomes = run(prepare(replace(plan, settings=(Setting(),))))
    errors = [(outcome.image, outcome.error) for outcome in outcomes if outcome.error]
    assert errors == [("b", "RuntimeError: out of memory at once"), ("b", "tiny has no file of it to match")]


def test_a_contestant_that_fails_on_every_image_is_told_and_costs_the_others_nothing(plan):
    plan = replace(plan, settings=(Setting(), Setting(steps=5000)), reference="jpeg")
    results = evaluate(plan)
    assert [row["contestant"] for row in results["summary"]] == ["tiny", "jpeg at tiny"]
    assert results["summary"][0]["images"] == 3
    failed = {one["name"]: one["error"] for one in results["failed"]}
    assert list(failed) == ["tiny steps=5000", "jpeg at tiny steps=5000"]
    assert "steps must be 1 to 1000" in failed["tiny steps=5000"]
    text = summary_markdown(results)
    assert "tiny steps=5000 failed on every image: " in text and "left out: " not in text


def test_nothing_that_was_kept_outlives_its_record(plan):
    plan = replace(plan, settings=(Setting(),))
    run(prepare(plan))
    kept = {path.relative_to(plan.out) for kind in KEPT for path in (plan.out / kind).rglob("*.*")}
    assert len(kept) == 2 * 6 + 3
    Image.new("RGB", (60, 40), "red").save(plan.images["a"])
    run(prepare(replace(plan, keep=False)))
    left = {path.relative_to(plan.out) for kind in KEPT for path in (plan.out / kind).rglob("*.*")}
    assert {path.stem for path in kept - left} == {"a"} and len(kept - left) == 5
    row = next(row for row in gather(prepare(plan), [])["results"] if row["image"] == "a")
    assert row["file"] is row["restored"] is None
    run(prepare(replace(plan, captions={"b": "a red cup"}, keep=False)))
    assert (plan.out / "originals" / "b.png").is_file() and not list((plan.out / "images" / "tiny").glob("b.*"))


def test_a_codec_of_the_name_original_is_not_taken_for_the_originals(plan, tiny_codec, tmp_path):
    save(tiny_codec, tmp_path / "original")
    plan = replace(plan, curves=(Curve.parse(str(tmp_path / "original")),), settings=(Setting(),), anchors=())
    results = evaluate(plan)
    assert results["images"][0]["original"] == "originals/a.png"
    assert results["results"][0]["restored"] == "images/original/a.png"
    assert torch.equal(read_image(plan.out / "originals" / "a.png"), read_image(plan.images["a"]))


def test_originals_that_are_wanting_are_kept_without_another_coding(plan, monkeypatch):
    plan = replace(plan, settings=(Setting(),), anchors=())
    run(prepare(plan))
    (plan.out / "originals" / "a.png").unlink()
    monkeypatch.setattr(CodecContestant, "code", lambda *_: pytest.fail("coded again"))
    run(prepare(plan))
    assert (plan.out / "originals" / "a.png").is_file()


def test_an_image_for_which_one_has_no_number_is_left_out_of_the_metric_for_all(plan):
    plan = replace(plan, settings=(Setting(),))
    run(prepare(plan))
    store = Store(plan.out)
    record = store.record("tiny", "a")
    store.save("tiny", "a", record.measured({"psnr": math.nan}, {}), {})
    results = gather(prepare(plan), [])
    for row in results["summary"]:
        own = [r["metrics"]["psnr"] for r in results["results"] if r["contestant"] == row["contestant"]]
        assert row["metrics"]["psnr"]["value"] == pytest.approx(np.mean(own[1:])) and own[1] is not None
        assert row["metrics"]["psnr"]["images"] == 2 and row["images"] == 3
    assert "PSNR (dB) is of 2 images" in summary_markdown(results)


def test_files_over_budget_are_marked_in_the_table(plan):
    plan = replace(plan, settings=(Setting(),), metrics=("psnr",))
    results = evaluate(plan)
    over = sum(not row["fits"] for row in results["results"])
    assert over and f"({over} over budget)" in summary_markdown(results)


def test_published_points_of_a_named_data_set_are_shown(plan):
    plan = replace(plan, settings=(Setting(),), anchors=(), dataset="kodak")
    results = evaluate(plan)
    assert results["dataset"] == "kodak" and {point["dataset"] for point in results["published"]} == {"kodak"}


def test_torchrun_without_a_folder_is_refused(plan, monkeypatch, capsys):
    from ulcompress.commands.main import run as command

    monkeypatch.setenv("WORLD_SIZE", "2")
    assert command(["evaluate", str(plan.images["a"])]) == 1
    assert "torchrun needs a folder that its processes share; give --out" in capsys.readouterr().err


def test_captions_are_sent_and_are_part_of_what_is_known(plan, codec):
    plan = replace(plan, anchors=(), settings=(Setting(),))
    run(prepare(plan))
    run(prepare(replace(plan, captions={"a": "a red cup on a table"})))
    data = (plan.out / "files" / "tiny" / "a.ulc").read_bytes()
    assert data == load(codec).compress(read_image(plan.images["a"]), "a red cup on a table")


def test_metrics_of_sets_are_over_all_images(plan, squeezenet, tmp_path):
    import shutil

    (tmp_path / "weights").mkdir()
    shutil.copy(squeezenet, tmp_path / "weights" / "squeezenet1_1.safetensors")
    name = "frechet-squeezenet1_1"
    plan = replace(plan, metrics=(name, "lpips-vgg"), weights=tmp_path / "weights", anchors=())
    monkey = pytest.MonkeyPatch()
    monkey.setattr("torch.hub.download_url_to_file", _refuse)
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "cache"))
    try:
        results = evaluate(plan)
    finally:
        torch.hub.set_dir(before)
        monkey.undo()
    store = Store(plan.out)
    points = [store.points("tiny", image, name) for image in plan.images]
    assert [p["restored"].shape for p in points] == [(1, 512)] * 3
    from ulcompress.evaluation.metrics.frechet import frechet_of_points

    clouds = [torch.from_numpy(np.concatenate([p[kind] for p in points])).double() for kind in ("restored", "original")]
    value = results["summary"][0]["metrics"][name]
    assert value["value"] == pytest.approx(frechet_of_points(*clouds)) and value["low"] is value["high"] is None
    assert next(m for m in results["metrics"] if m["name"] == "lpips-vgg")["missing"].startswith("vgg16-397923af.pth")
    assert results["metrics"][0]["files"]


def _refuse(*_, **__):
    raise OSError("no network")


def test_results_are_written(plan):
    plan = replace(plan, reference="tiny")
    results = evaluate(plan)
    written = write_results(results, plan.out)
    assert [path.name for path in written] == TABLES
    assert json.loads(written[0].read_text()) == results
    lines = written[1].read_text().splitlines()
    assert len(lines) == 5 and lines[0].startswith("contestant,images,bytes,bpp,psnr,psnr 95 % low,")
    assert "| jpeg at tiny |" in written[3].read_text()
    assert {delta["reference"] for delta in results["bjontegaard"]} == {"tiny"}
    assert {delta["metric"]: "points" in delta["refused"] for delta in results["bjontegaard"]} == {
        "psnr": True,
        "ms-ssim": False,  # none of the images is large enough
    }
    assert "working memory (MiB)" in written[3].read_text()
    assert r"\toprule" in written[4].read_text() and "jpeg at tiny & " in written[4].read_text()
    compared = {row["name"]: row["rate_percent"] for row in results["comparisons"] if row["metric"] == "psnr"}
    rates = {row["contestant"]: row["bpp"] for row in results["summary"]}
    assert compared == {  # each with the point to which it is matched
        "jpeg at tiny": pytest.approx(100 * (rates["jpeg at tiny"] / rates["tiny"] - 1)),
        "jpeg at tiny steps=1": pytest.approx(100 * (rates["jpeg at tiny steps=1"] / rates["tiny steps=1"] - 1)),
    }


def test_settings():
    setting = Setting.parse("steps=4,without=syntax+text")
    assert setting == Setting(steps=4, without=("syntax", "text")) and Setting.parse(str(setting)) == setting
    assert Setting.parse("noise_scale=0.75,sampler=heun,start=0.5").sampling == Sampling(
        noise_scale=0.75, sampler="heun", start=0.5
    )
    assert Setting(steps=2, guidance=3.0) | Setting(steps=4) == Setting(steps=4, guidance=3.0)
    words = ("step=4", "steps", "steps=four", "", "guidance=nan", "guidance=inf", "online=0", "steps=-1", "max_bytes=0")
    for text in (*words, "bpp=0", "bpp=nan"):
        with pytest.raises(ValueError, match="got the setting"):
            Setting.parse(text)
    with pytest.raises(ValueError, match=r"got the setting start=2\.0: start must be more than 0 and at most 1"):
        Setting.parse("start=2")
    for text, names in (("rate=1,max_bytes=9", "rate and max_bytes"), ("bpp=1,online=2", "bpp and online")):
        with pytest.raises(ValueError, match=f"{names} set the size of a file; give one"):
            Setting.parse(text)
    assert Setting.parse("rate=1,online=2").budget(60, 40) is None


def test_files_have_the_size_of_the_setting(plan, codec):
    settings = tuple(map(Setting.parse, ("max_bytes=12", "bpp=0.04")))
    results = evaluate(replace(plan, settings=settings, anchors=(), metrics=("psnr",)))
    sizes = {(row["contestant"], row["image"]): row["bytes"] for row in results["results"]}
    at_rate = {"a": int(0.04 * 40 * 60 / 8), "b": 8, "c": int(0.04 * 40 * 60 / 8)}
    assert {name: size for (of, name), size in sizes.items() if of == "tiny max_bytes=12"} == dict.fromkeys("abc", 12)
    assert {name: size for (of, name), size in sizes.items() if of == "tiny bpp=0.04"} == at_rate
    name = results["results"][0]["image"]
    data = load(codec).compress(read_image(plan.images[name]), max_bytes=12)
    assert (plan.out / results["results"][0]["file"]).read_bytes() == data


def test_settings_of_one_codec_and_of_a_curve(plan, codec):
    shutil.copytree(codec, other := f"{codec}-other")
    curves = (Curve("tiny", (codec,)), Curve("ours", (codec, other)))
    plan = replace(plan, anchors=(), curves=curves, settings=(Setting(steps=2),))

    def names(**codec_settings):
        return [c.name for c in Evaluation(replace(plan, codec_settings=codec_settings)).contestants]

    one, two = Setting(steps=1), Setting(steps=4)
    assert names() == ["tiny steps=2", "ours tiny steps=2", "ours tiny-other steps=2"]
    assert names(**{"tiny-other": (one, two)}) == [
        "tiny steps=2", "ours tiny steps=2", "ours tiny-other steps=1", "ours tiny-other steps=4"
    ]  # fmt: skip
    assert names(ours=(one,)) == ["tiny steps=2", "ours tiny steps=1", "ours tiny-other steps=1"]
    assert names(ours=(one,), **{other: (one, two)})[2:] == ["ours tiny-other steps=1", "ours tiny-other steps=4"]


def test_differences_to_a_point(plan):
    results = evaluate(replace(plan, reference="tiny steps=1", metrics=("psnr",)))
    assert results["bjontegaard"] == []
    rows = {row["name"]: row for row in results["comparisons"]}
    assert rows.keys() == {"tiny", "jpeg at tiny", "jpeg at tiny steps=1"}
    tiny = rows["tiny"]
    values = {row["contestant"]: row["metrics"]["psnr"]["value"] for row in results["summary"]}
    assert tiny["difference"] == pytest.approx(values["tiny"] - values["tiny steps=1"])
    assert tiny["low"] < tiny["difference"] < tiny["high"] and tiny["kind"] == "equal rate" and tiny["images"] == 3
    text = summary_markdown(results)
    assert "Differences to tiny steps=1, with 95 % intervals over images" in text
    digits = 4 if max(abs(tiny["low"]), abs(tiny["high"])) < 1 else 2
    assert f"| {tiny['low']:+.{digits}f} to {tiny['high']:+.{digits}f} | {tiny['wins']} of 3 |" in text


def test_curves(tmp_path, monkeypatch):
    assert Curve.parse("mini") == Curve("mini", ("mini",))
    assert Curve.parse(str(tmp_path)) == Curve(tmp_path.name, (str(tmp_path),))
    assert Curve.parse("ours=runs/low,runs/high") == Curve("ours", ("runs/low", "runs/high"))
    monkeypatch.chdir(tmp_path)
    assert Curve.parse(".") == Curve(tmp_path.name, (".",))
    (tmp_path / "a=b").mkdir()
    assert Curve.parse(str(tmp_path / "a=b")) == Curve("a=b", (str(tmp_path / "a=b"),))
    assert Curve.parse("runs/rate=3,cut") == Curve("runs/rate=3,cut", ("runs/rate=3,cut",))
    with pytest.raises(ValueError, match="or NAME=CODEC,CODEC"):
        Curve.parse("ours=")


def test_names_of_images(tmp_path):
    paths = [tmp_path / name for name in ("x/0.png", "y/0.png")]
    assert list(name_images(paths)) == ["x/0", "y/0"]
    twins = [tmp_path / name for name in ("x/0.png", "x/0.jpg", "x/1.png")]
    assert list(name_images(twins)) == ["0.png", "0.jpg", "1"]
    assert list(name_images([*twins, tmp_path / "y/0.png"])) == ["x/0.png", "x/0.jpg", "x/1", "y/0"]
    with pytest.raises(ValueError, match=r"two images of the name '0\.png'"):
        name_images(twins[:1] * 2)
    assert list(name_images([tmp_path / os.fsdecode(b"caf\xe9.png"), tmp_path / "a\nb.png"])) == ["caf\\udce9", "a\\nb"]


def test_what_cannot_be_is_refused_before_anything_is_done(plan):
    for change, message in (
        ({"anchors": ("gif",)}, "got the anchor 'gif'; known are jpeg"),
        ({"metrics": ("psnrr",)}, "got the metric 'psnrr'"),
        ({"curves": (Curve("x", ("nothing",)),)}, "no codec 'nothing'"),
        ({"settings": (Setting(), Setting())}, "two contestants of the name 'tiny'"),
        ({"settings": (Setting(without=("syntax",)),)}, "sends no 'syntax'; it sends text"),
        ({"reference": "avif"}, "got the reference 'avif'; the curves are tiny, jpeg; the points jpeg at tiny"),
        (
            {"codec_settings": {"tinny": (Setting(rate=1),)}},
            "got a setting of the codec 'tinny'; the codecs are .*tiny",
        ),
        ({"codec_settings": {"tiny": (Setting(rate=9),)}}, r"rate.*: .*tiny$"),
        ({"batch": 0}, "got batch=0; give 1 or more"),
        ({"device": "meta:7x"}, "cannot use the device 'meta:7x'"),
        ({"dataset": "kodac"}, "got the data set 'kodac'; numbers are published for kodak"),
    ):
        with pytest.raises(ValueError, match=message):
            run(prepare(replace(plan, **change)))
    assert not plan.out.exists()


def test_slugs_stay_different():
    names = ["mini steps=4", "mini+steps=4", "mini-steps=4", "a/b", "a b", "kodim01", "Ä", "ö", ".."]
    slugs = [slug(name) for name in names]
    assert len(set(slugs)) == len(names) and slug("kodim01") == "kodim01"
    assert all(part.isascii() and "/" not in part and part.strip(".") for part in slugs)
    long = [slug(end * 300) for end in "xyß"]
    assert len(set(long)) == 3 and all(len(f"{part}.json") <= 255 for part in long)


def test_a_damaged_record_is_none(tmp_path):
    store = Store(tmp_path)
    record = Record("x", 4, 4, 10, 0.1, 0.2, None, None, 1.0, True)
    store.save("one", "image", record.measured({"psnr": math.inf}, {"psnr": "how"}), {})
    assert store.record("one", "image").metrics == {"psnr": None}
    path = next(tmp_path.rglob("*.json"))
    whole = json.loads(path.read_text())
    for change in (
        {"width": 0}, {"bytes": "3"}, {"bytes": -1}, {"height": 4.0}, {"fits": 1}, {"identity": None},
        {"factor": math.nan}, {"metrics": [1]}, {"metrics": {"psnr": "30"}}, {"metrics": {"psnr": math.inf}},
        {"protocols": {"psnr": 1}}, {"quality": [1]}, {"encode_seconds": None}, {"working_memory": 0.5}, {"more": 1},
    ):  # fmt: skip
        path.write_text(json.dumps(whole | change))
        assert store.record("one", "image") is None, change
    for text in (b'{"bytes": 3}', b"[" * 10**5, b"3", b"", b"\xff\xfe", json.dumps(whole).encode()[:-1]):
        path.write_bytes(text)
        assert store.record("one", "image") is None, text[:20]
    path.write_text(json.dumps(whole))
    assert store.record("one", "image") == record.measured({"psnr": math.inf}, {"psnr": "how"})
    assert Outcome("one", "image").error is None


@pytest.mark.parametrize("damage", [b"", b"no archive", None])
def test_damaged_points_are_none_and_measured_again(plan, squeezenet, tmp_path, damage):
    (tmp_path / "weights").mkdir()
    shutil.copy(squeezenet, tmp_path / "weights" / "squeezenet1_1.safetensors")
    name = "frechet-squeezenet1_1"
    plan = replace(plan, metrics=(name,), weights=tmp_path / "weights", anchors=(), settings=(Setting(),))
    before = numbers(evaluate(plan))
    path = next((plan.out / "points").rglob("a.npz"))
    path.write_bytes(path.read_bytes()[:-40] if damage is None else damage)
    assert Store(plan.out).points("tiny", "a", name) == {}
    outcomes = run(prepare(plan))
    assert [outcome.known for outcome in outcomes] == [False, True, True]
    assert numbers(gather(prepare(plan), outcomes)) == before


def test_a_damaged_image_that_was_kept_is_restored_again(plan):
    plan = replace(plan, anchors=(), settings=(Setting(),))
    run(prepare(replace(plan, metrics=("psnr",))))
    next((plan.out / "images").rglob("a.png")).write_bytes(b"no image")
    assert all(outcome.error is None for outcome in run(prepare(plan)))


def test_odd_names_are_escaped_in_all_that_is_written(plan, codec):
    odd = os.fsdecode(b"caf\xe9 <b>\n.png")
    path = plan.images["a"].rename(plan.images["a"].with_name(odd))
    other = shutil.copytree(codec, Path(codec).with_name("\x1b tiny"))
    curves, images = (Curve.parse(str(other)),), name_images([path])
    plan = replace(plan, images=images, curves=curves, anchors=(), settings=(Setting(),))
    results = gather(prepare(plan), run(prepare(plan)), command=f"evaluate {odd}")
    texts = [path.read_text(encoding="utf-8") for path in write_results(results, plan.out)]
    assert results["images"][0]["name"] == "caf\\udce9 <b>\\n"
    assert results["command"] == "evaluate caf\\udce9 <b>\\n.png"
    assert json.loads(texts[0]) == results
    assert not any("\x1b" in text for text in texts) and all("\\x1b tiny" in texts[place] for place in (1, 3))


def test_another_metric_does_not_forget_the_first_where_nothing_is_kept(plan, monkeypatch):
    plan = replace(plan, settings=(Setting(),), keep=False)
    first = gather(prepare(plan), run(prepare(replace(plan, metrics=("psnr",)))))
    code = CodecContestant.code

    def broken(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(CodecContestant, "code", broken)
    run(prepare(plan))  # nothing that was known is lost by what goes wrong
    assert all(outcome.known for outcome in run(prepare(replace(plan, metrics=("psnr",)))))
    monkeypatch.setattr(CodecContestant, "code", code)
    both = evaluate(plan)
    for row, other in zip(first["results"], both["results"], strict=True):
        assert row["metrics"]["psnr"] == other["metrics"]["psnr"] and "ms-ssim" in other["metrics"]
    assert all(outcome.known for outcome in run(prepare(replace(plan, metrics=("psnr",)))))


def test_a_damaged_codec_is_told_before_anything_is_measured(plan, codec, tmp_path):
    shutil.copytree(codec, tmp_path / "damaged")
    weights = tmp_path / "damaged/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"damaged"):
        run(prepare(replace(plan, curves=(*plan.curves, Curve.parse(str(tmp_path / "damaged"))))))
    assert not plan.out.exists()
