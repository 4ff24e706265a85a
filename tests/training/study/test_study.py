from pathlib import Path

import pytest

from ulcompress.evaluation.measuring.contestants import Setting
from ulcompress.training.study.grid import combinations
from ulcompress.training.study.study import read_study
from ulcompress.training.study.words import words


def test_what_a_file_states(study_file):
    study = read_study(study_file())
    assert study.name == "trial" and study.seeds == (0, 1) and study.budget == {"max_steps": 2}
    base, fast, one_step = study.variants
    assert (base.name, base.options) == ("base", {})
    assert fast.options == {"model.optimizer.learning_rate": 0.01}
    assert one_step.setting == Setting(steps=1) and not one_step.options
    assert study.evaluation.metrics == ("psnr",)


def test_a_variant_can_be_files_and_a_grid(study_file, tmp_path):
    (tmp_path / "other.yaml").write_text("trainer: { max_steps: 1 }\n")
    text = "base: other.yaml\nvariants: { laid over: [other.yaml], at: { grid: { setting: [steps=1, rate=2] } } }\n"
    _, laid, one, two = read_study(study_file(text)).variants
    assert laid.files == (tmp_path / "other.yaml",)
    assert [(v.name, v.setting) for v in (one, two)] == [
        ("at steps=1", Setting(steps=1)),
        ("at rate=2", Setting(rate=2)),
    ]


def test_a_grid_has_every_combination():
    named = dict(combinations({"model.a.width": [1, 2], "model.b.depth": [3]}))
    assert named == {
        "width=1, depth=3": {"model.a.width": 1, "model.b.depth": 3},
        "width=2, depth=3": {"model.a.width": 2, "model.b.depth": 3},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bases: x", "has 'bases'; give base, options, budget"),
        ("variants: {}", "has no `base`"),
        ("base: missing.yaml", "no file .*missing.yaml; paths in a study are relative to its folder"),
        ("base: study.yaml\nseeds: [1, 1]", r"seeds \[1, 1\]; give different integers"),
        ("base: study.yaml\nseeds: [a]", "give different integers"),
        ("base: study.yaml\nbudget: { steps: 3 }", "budget has 'steps'; give max_steps"),
        ("base: study.yaml\nvariants: { base: {} }", "called 'base', as the base itself"),
        ("base: study.yaml\nvariants: { a: { steps: 3 } }", "variant 'a' has 'steps'; give options such as"),
        ("base: study.yaml\nvariants: { a: { setting: speed=3 } }", "got the setting 'speed=3'"),
        ("base: study.yaml\nvariants: { a: { grid: { x.y: 3 } } }", "grid has x.y: 3; give a list"),
        (
            "base: study.yaml\nvariants: { a: { grid: { setting: [rate=1] } }, a rate=1: {} }",
            "two variants are called 'a rate=1'",
        ),
        ("base: study.yaml\nevaluate: { image: x }", "evaluate has 'image'; give images"),
    ],
)
def test_one_line_says_what_is_wrong(study_file, text, message):
    path = study_file(text, name="study")
    with pytest.raises(ValueError, match=message) as caught:
        read_study(path)
    assert "\n" not in str(caught.value) and str(path.parent) in str(caught.value)


def test_options_become_words_of_a_command_line():
    part = {"class_path": "Grid", "init_args": {"levels": [8, 8], "inner": {"class_path": "Other"}}}
    assert words({"model.text": None, "model.q": part, "data.train": "folder"}) == [
        *("--model.text", "null", "--model.q", "Grid", "--model.q.levels", "[8, 8]"),
        *("--model.q.inner", "Other", "--data.train", "folder"),
    ]


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[3] / "experiments/ablations").glob("*.yaml")))
def test_provided_studies_are_read_and_their_heads_say_what_for(path):
    assert len(read_study(path).variants) > 3 and len(read_study(path).seeds) == 3
    assert all(word in path.read_text().split("\nbase:")[0] for word in ("Question:", "Cost:", "Command:"))
