"""compress and decompress of a tree, by one process and by two."""

import shutil

import pytest
import torch

from ulcompress.commands import batch
from ulcompress.commands.main import run
from ulcompress.images import write_image

NAMES = ("a/1.png", "a/2.png", "b/c/1.png", "b/2.png", "d.png")


@pytest.fixture
def tree(tmp_path):
    generator = torch.Generator().manual_seed(0)
    for name in NAMES:
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(torch.rand(3, 16, 20, generator=generator), tmp_path / "tree" / name)
    return tmp_path / "tree"


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def reports(text):
    """Return the lines without the seconds."""
    return [line.rpartition(",")[0] for line in text.splitlines()]


def test_two_processes_give_the_files_and_the_lines_of_one(directory, tree, tmp_path, monkeypatch, capsys):
    (tree / "b/2.png").write_bytes(b"broken")
    monkeypatch.chdir(tmp_path)
    told = []
    for devices in ("1", "2"):
        (tmp_path / "out").mkdir()
        words = ["tree", "--codec", directory, "-o", "out", "--devices", devices, "--threads", "1"]
        assert run(["compress", *words]) == 1
        told.append(capsys.readouterr())
        shutil.move("out", f"out{devices}")
    one, two = told
    assert reports(one.out) == reports(two.out) and len(one.out.splitlines()) == 4
    assert one.err == two.err and one.err.startswith("ulcompress: tree/b/2.png: ") and one.err.count("\n") == 1
    assert contents(tmp_path / "out1") == contents(tmp_path / "out2")
    assert sorted(contents(tmp_path / "out1")) == sorted(n.replace(".png", ".ulc") for n in NAMES if n != "b/2.png")


def test_an_interrupted_batch_continues(directory, tree, tmp_path, monkeypatch, capsys):
    words = [str(tree), "--codec", directory, "-o", str(tmp_path / "out")]
    write, seen = batch.write_whole, []

    def interrupted(target, data):
        seen.append(target)
        if len(seen) == 3:
            raise KeyboardInterrupt
        write(target, data)

    monkeypatch.setattr(batch, "write_whole", interrupted)
    assert run(["compress", *words]) == 130
    kept = contents(tmp_path / "out")
    assert len(kept) == 2
    capsys.readouterr()
    assert run(["compress", *words, "--skip-existing"]) == 0
    told = capsys.readouterr()
    assert told.err == "ulcompress: 2 of 5 exist already and are skipped\n" and len(told.out.splitlines()) == 3
    assert len(contents(tmp_path / "out")) == 5 and kept.items() <= contents(tmp_path / "out").items()
    assert run(["decompress", str(tmp_path / "out"), "--codec", directory, "-o", str(tmp_path / "back")]) == 0
    assert set(contents(tmp_path / "back")) == set(NAMES)


def test_failures_among_many_files_are_counted(directory, tree, monkeypatch, capsys):
    monkeypatch.setattr(batch, "FEW", 4)
    for name in NAMES[:2]:
        (tree / name).write_bytes(b"broken")
    assert run(["compress", str(tree), "--codec", directory]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert (
        len(lines) == 3 and lines[2] == "ulcompress: 2 of 5 files failed, each with a line above; the others are done"
    )


def test_processes_share_no_standard_input(directory, tree, tmp_path, capsys):
    words = ["compress", "-", str(tree / "d.png"), "--codec", directory, "-o", str(tmp_path / "out"), "--devices", "2"]
    assert run(words) == 1
    assert "got - among 2 inputs for 2 processes, which share no standard input" in capsys.readouterr().err
