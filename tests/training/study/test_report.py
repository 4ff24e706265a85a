"""A study of two variants and two seeds from the first step to the report."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from ulcompress.training.study.attempts import DONE, FAILED
from ulcompress.training.study.measurement import measurements
from ulcompress.training.study.outcome import StudyOutcome
from ulcompress.training.study.plan import plan
from ulcompress.training.study.preview import brief, describe
from ulcompress.training.study.report import differences, write_report
from ulcompress.training.study.study import read_study


@pytest.fixture
def study(study_file, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = [f"{images}/{number}.png" for number in range(2)]
    return read_study(study_file()).with_images(few)


@pytest.fixture
def runs(study, images):
    return plan(study, data=["--data.train", images])


def cells(text, row):
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {row} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_from_the_first_step_to_the_page(study, runs, carry_out):
    base, other_seed, fast, _ = runs
    assert carry_out(study, base).state == DONE
    assert (base.run.codec / "config.yaml").exists() and base.run.record["step"] == 2
    assert [one.cost is not None for one in measurements(study, base)] == [True, True]
    assert carry_out(study, fast).state == DONE
    folder = Path("runs/trial/report")
    write_report(StudyOutcome(study, runs), folder)
    partial = (folder / "table.md").read_text()
    assert "2 of 4 runs are done" in partial and "- base, seed 1: waiting" in partial
    assert "no interval" in cells(partial, "fast")[5] and cells(partial, "fast")[1] == "1"

    other_seed.attempts.update(other_seed.attempts.claim(), state=FAILED, reason="no space left on the disk")
    assert carry_out(study, other_seed).state == DONE
    fast_again = runs[3]
    fast_again.attempts.update(fast_again.attempts.claim(), state=FAILED, reason="no space left on the disk")
    fast_again.attempts.update(fast_again.attempts.claim(), state=FAILED, reason="no space left on the disk")
    outcome = StudyOutcome(study, runs)
    written = write_report(outcome, folder)
    assert [path.name for path in written] == ["table.md", "table.csv", "table.tex", "index.html"]
    text = (folder / "table.md").read_text()
    assert "- fast, seed 1: failed after 2 attempts: no space left on the disk" in text
    assert [cells(text, name)[1] for name in ("base", "fast", "one step")] == ["2", "1", "2"]
    assert re.search(r"[+-]\d.*\(.* to .*\), \d of 2, bits \+0.0 %, equal rate", cells(text, "one step")[5])
    assert cells(text, "base")[5] == ""

    summaries = [json.loads((run.run.folder / "evaluation/one-step/results.json").read_text()) for run in runs[:2]]
    values = [summary["summary"][0]["metrics"]["psnr"]["value"] for summary in summaries]
    bases = [json.loads((run.run.folder / "evaluation/base/results.json").read_text()) for run in runs[:2]]
    expected = sum(values) / 2 - sum(base["summary"][0]["metrics"]["psnr"]["value"] for base in bases) / 2
    row = outcome.rows[-1]
    assert row.comparisons["psnr"].difference == pytest.approx(expected)
    assert row.cost.codec_bytes == (base.run.codec / "model.safetensors").stat().st_size
    assert row.cost.parameters == outcome.rows[0].cost.parameters > 1000

    for command in outcome.rows[1].commands:
        assert (command in text and "reproduced/trial/fast-s0" in command) or "--root reproduced" in command
    assert "0.01" in outcome.rows[1].commands[0]
    header, *lines = differences(outcome).csv.splitlines()
    assert (
        header.startswith("variant,seeds,bytes,bpp,psnr,psnr difference,psnr difference 95 % low") and len(lines) == 3
    )
    assert r"\begin{tabular}" in (folder / "table.tex").read_text()

    page = (folder / "index.html").read_text()
    content = json.loads(re.search(r'<script[^>]*id="data"[^>]*>(.*?)</script>', page, re.S)[1])
    assert [one["name"] for one in content["contestants"]] == ["base", "fast", "one step steps=1"]
    assert [one["curve"] for one in content["contestants"]] == ["base", "fast", "one step"]
    for row in content["results"]:
        assert (folder / row["restored"]).is_file() and (folder / row["file"]).is_file()
    assert all((folder / image["original"]).is_file() for image in content["images"])
    assert [row["low"] is None for row in content["comparisons"]] == [True, False]

    said, builds = describe(outcome)
    assert builds and "4 runs: 3 done, 1 left" in said and "model.optimizer.learning_rate: 0.001 -> 0.01" in said
    assert "base; one step (steps=1)" in said and "hours" in said
    assert "seed 1: failed (not trained, 0 of 1 measured)" in said

    other = replace(study, evaluation=replace(study.evaluation, metrics=("psnr", "ms-ssim")))
    assert [one.cost for one in measurements(other, base)] == [None, None]
    assert StudyOutcome(other, runs).rows == []


def test_a_codec_that_is_used_otherwise_keeps_its_weights(study, runs, carry_out):
    from ulcompress import load
    from ulcompress.training.study.variation import vary

    carry_out(replace(study, evaluation=replace(study.evaluation, images=())), runs[0])
    codec = runs[0].run.codec
    vary(codec, Path("varied"), {"decoder.steps": 3, "decoder.boundary": {"patch": 16, "overlap": 4}})
    was, now = load(codec), load("varied")
    assert (now.decoder.steps, was.decoder.steps) == (3, 2) and now.decoder.boundary.patch == 16
    assert all(value.equal(now.state_dict()[name]) for name, value in was.state_dict().items())
    with pytest.raises(ValueError, match=r"no option decoder.stepz; beside 'stepz' there are .*steps"):
        vary(codec, Path("other"), {"decoder.stepz": 3})
    with pytest.raises(ValueError, match=r"encoder\.width change the codec's weights"):
        vary(codec, Path("other"), {"encoder.width": 16})


def test_a_training_that_is_timed_is_prepared_by_one_batch():
    options = brief({"model": {"preparation": {"batches": 100}}})
    assert options[:2] == ["--model.preparation.batches", "1"] and "--trainer.max_steps" in options
    assert brief({"model": {"preparation": {"batches": 0}}})[:2] == ["--model.preparation.batches", "0"]
    assert "preparation" not in " ".join(brief({"model": {"preparation": None}}))


def test_a_dry_run_says_which_variant_changes_nothing(study_file, images):
    text = "base: tiny.yaml\noptions: { data.batch_size: 2 }\n"
    text += "variants: { same: { data.batch_size: 2 }, one step: { setting: steps=1 } }\n"
    study = read_study(study_file(text))
    said, _ = describe(StudyOutcome(study, plan(study, data=["--data.train", images])))
    assert said.startswith("base; same (changes nothing); one step (steps=1)\n")


def test_a_dry_run_says_what_cannot_be_built(study_file, images):
    text = "base: tiny.yaml\nvariants: { odd: { model.codec.encoder.stride: 7 } }\n"
    study = read_study(study_file(text))
    said, builds = describe(StudyOutcome(study, plan(study, data=["--data.train", images])))
    assert not builds
    assert "cannot be built: " in said and "stride must be one of" in said and "\n  builds: " in said
    assert "512 x 512: 4096 bits, 512 bytes" in said
