import os
from pathlib import Path

import pytest

from ulcompress.training.study import identity as identities
from ulcompress.training.study.attempts import FAILED
from ulcompress.training.study.configuration import build, differences, resolve
from ulcompress.training.study.plan import plan, state
from ulcompress.training.study.study import read_study

STUDY = """
base: tiny.yaml
variants: { fast: { model.optimizer.learning_rate: 0.01 }, one step: { setting: steps=1 } }
seeds: [0, 1]
"""


@pytest.fixture
def tiny(study_file):
    return str(study_file().with_name("tiny.yaml"))


@pytest.fixture
def planned(study_file, images, tmp_path):
    def again(*words, text="base: tiny.yaml"):
        return plan(read_study(study_file(text)), root=tmp_path / "runs", data=["--data.train", images, *words])

    return again


def test_variants_that_differ_in_use_share_trainings(planned):
    runs = planned(text=STUDY)
    assert [(run.title, [variant.name for variant in run.variants]) for run in runs] == [
        ("base, seed 0", ["base", "one step"]),
        ("base, seed 1", ["base", "one step"]),
        ("fast, seed 0", ["fast"]),
        ("fast, seed 1", ["fast"]),
    ]
    assert len({run.run.folder for run in runs}) == 4


def test_other_options_data_or_code_are_other_runs(planned, images, monkeypatch):
    first, again = planned()[0], planned()[0]
    assert first.run == again.run
    option = planned("--model.optimizer.weight_decay", "0.5")[0]
    os.utime(Path(images) / "0.png", (1, 1))
    data = planned()[0]
    monkeypatch.setattr(identities, "code", lambda: "changed")
    code = planned()[0]
    changed = [
        {key for key in first.identity if run.identity[key] != before.identity[key]}
        for run, before in ((option, first), (data, first), (code, data))
    ]
    assert changed == [{"configuration"}, {"data"}, {"code"}]
    assert len({run.run.folder for run in (first, option, data, code)}) == 4


def test_a_file_of_a_variant_wins_over_an_option_of_the_study(study_file, planned):
    study_file("model: { init_args: { optimizer: { learning_rate: 0.5 } } }", name="fast")
    text = (
        "base: tiny.yaml\noptions: { model.optimizer.learning_rate: 0.1 }\nvariants: { fast: [fast.yaml] }\nseeds: [0]"
    )
    rates = [run.configuration["model"]["init_args"]["optimizer"]["learning_rate"] for run in planned(text=text)]
    assert rates == [0.1, 0.5]


def test_where_a_run_lies_and_what_it_shows_is_no_part_of_its_identity(tiny, images):
    line = ["-c", tiny, "--data.train", images]
    same = [
        identities.identity(resolve([*line, "--name", name, "--trainer.enable_progress_bar", shown]))
        for name, shown in (("run", "true"), ("run", "false"))
    ]
    assert same[0] == same[1]


def test_a_wrong_option_names_its_variant(study_file, images):
    text = "base: tiny.yaml\nvariants: { odd: { model.codec.encoder.breadth: 3 } }\n"
    with pytest.raises(ValueError, match=r"variant 'odd': .*breadth"):
        plan(read_study(study_file(text)), data=["--data.train", images])


def test_runs_that_would_share_a_folder_of_checkpoints_are_refused(study_file, images):
    text = "base: tiny.yaml\noptions: { trainer.callbacks.checkpoint.init_args.dirpath: shared }\n"
    with pytest.raises(ValueError, match="variant 'base': all runs would write their checkpoints to shared; leave out"):
        plan(read_study(study_file(text)), data=["--data.train", images])


def test_a_run_that_has_failed_twice_is_not_tried_again(planned):
    run = planned()[0]
    assert state(run, measured=True) == "waiting"
    run.attempts.update(run.attempts.claim(), state=FAILED)
    assert state(run, measured=True) == "waiting"
    second = run.attempts.claim()
    assert state(run, measured=True) == "running"
    run.attempts.update(second, state=FAILED)
    assert state(run, measured=True) == "failed"


def test_differences_name_a_part_that_is_left_out_or_of_another_class_once(tiny, images):
    line = ["-c", tiny, "--data.train", images, "--name", "run"]
    changed = ["--model.codec.conditioning.text", "null", "--model.optimizer.learning_rate", "0.5"]
    other = ["--model.codec.quantizer", "FiniteScalarQuantizer", "--model.codec.quantizer.channels", "8"]
    base, variant = resolve(line), resolve([*line, *changed, *other])
    assert set(map(str, differences(base, variant))) == {
        "model.codec.quantizer: VectorQuantizer -> FiniteScalarQuantizer",
        "model.codec.conditioning.text: TextPrompt -> None",
        "model.optimizer.learning_rate: 0.001 -> 0.5",
    }
    assert list(build(variant).codec.conditioners) == ["spatial"]
    assert differences(base, resolve(line)) == []
