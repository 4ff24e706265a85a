from argparse import Namespace
from functools import partial
from pathlib import Path

import pytest

from ulcompress.commands.targets import STDIN, STDOUT, jobs_of, source_path
from ulcompress.functional.folders import find_files


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with images."""
    for name in ("a.png", "b.png", "tree/x/1.png", "tree/y/1.png", "one/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def jobs(inputs, output=None, *, force=False, skip_existing=False):
    options = Namespace(
        inputs=[source_path(text) for text in inputs.split()], output=output, force=force, skip_existing=skip_existing
    )
    return jobs_of(options, partial(find_files, suffixes={".png"}, kind="image"), ".ulc")


def targets(inputs, output=None, **options):
    return [str(job.target) for job in jobs(inputs, output, **options)]


@pytest.mark.parametrize(
    ("inputs", "output", "expected"),
    [
        ("a.png", None, ["a.ulc"]),
        ("tree", None, ["tree/x/1.ulc", "tree/y/1.ulc"]),
        ("a.png", "c.bin", ["c.bin"]),
        ("a.png", "new.d/", ["new.d/a.ulc"]),
        ("a.png", "one", ["one/a.ulc"]),
        ("a.png", "new", ["new/a.ulc"]),
        ("a.png b.png", "new", ["new/a.ulc", "new/b.ulc"]),
        ("tree", "new", ["new/x/1.ulc", "new/y/1.ulc"]),
        ("tree/ one a.png", "new.d/", ["new.d/x/1.ulc", "new.d/y/1.ulc", "new.d/2.ulc", "new.d/a.ulc"]),
        ("tree/../tree", "new", ["new/x/1.ulc", "new/y/1.ulc"]),
        ("a.png a.png", "new", ["new/a.ulc"]),
        ("a.png", "-", [str(STDOUT)]),
        ("-", None, [str(STDOUT)]),
        ("-", "c.ulc", ["c.ulc"]),
        ("a.png b.png", "/dev/null", ["/dev/null", "/dev/null"]),
    ],
)
def test_outputs(here, inputs, output, expected):
    assert targets(inputs, output) == expected
    assert all(Path(target).parent.is_dir() for target in expected)


def test_a_file_of_the_name_of_standard_input(here):
    Path("-").touch()
    assert [job.source for job in jobs("./-", "c.ulc")] == [Path("-")]
    assert [job.source for job in jobs("-", "c.ulc")] == [STDIN]


@pytest.mark.parametrize("output", ["c.ulc", "-", "a.png"])
@pytest.mark.parametrize("inputs", ["a.png b.png", "tree", "- a.png"])
def test_several_files_for_one_output_are_refused(here, inputs, output):
    with pytest.raises(ValueError, match=f"got 2 files for the one output {output}; name a folder"):
        jobs(inputs, output, force=True)


@pytest.mark.parametrize(("inputs", "output"), [("tree/x tree/y", "new"), ("a.png tree", "c/")])
def test_two_for_one_file_are_refused_before_anything_is_made(here, inputs, output):
    Path("tree/a.png").touch()
    with pytest.raises(ValueError, match="would both be written to"):
        jobs(inputs, output)
    assert not Path(output).exists()


def test_files_that_are_there(here, capsys):
    Path("b.ulc").touch()
    advice = "use --force to overwrite, --skip-existing to write the others"
    with pytest.raises(ValueError, match=rf"b\.ulc exists; {advice}"):
        jobs("a.png b.png")
    assert targets("a.png b.png", force=True) == ["a.ulc", "b.ulc"]
    assert targets("a.png b.png", skip_existing=True) == ["a.ulc"]
    assert capsys.readouterr().err == "ulcompress: 1 of 2 exist already and are skipped\n"


def test_a_link_that_leads_nowhere_is_there(here):
    Path("a.ulc").symlink_to("none")
    with pytest.raises(ValueError, match=r"a\.ulc exists"):
        jobs("a.png")
