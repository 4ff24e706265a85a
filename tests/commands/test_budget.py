"""Files of the size that was asked for, and the beginnings of files, on the command line."""

import pytest
import torch

from ulcompress.commands.main import run
from ulcompress.images import read_image, write_image


@pytest.fixture
def photo(tmp_path):
    write_image(torch.rand(3, 90, 120, generator=torch.Generator().manual_seed(0)), tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_each_file_has_the_bytes_that_were_asked_for(directory, photo, capsys):
    file = photo.with_suffix(".ulc")
    for words, size in ((["--max-bytes", "20"], 20), (["--bpp", "0.012"], int(0.012 * 90 * 120 / 8))):
        assert run(["compress", str(photo), "--codec", directory, "--force", *words]) == 0
        assert file.stat().st_size == size
        assert run(["info", str(file), "--codec", directory]) == 0
    shown = capsys.readouterr().out
    assert "byte 0       format  version 2, cut to its size" in shown
    assert "byte 1-3     codec" in shown and "byte 4-5     size    120 x 90" in shown
    assert "byte 6-7     check" in shown and "byte 8-15    payload all streams in one arithmetic code, cut" in shown
    assert run(["decompress", str(file), "--codec", directory, "--force"]) == 0
    assert read_image(photo).shape == (3, 90, 120)


def test_the_beginning_of_a_file_is_restored_where_it_is_said_to_be_one(directory, photo, capsys):
    file = photo.with_suffix(".ulc")
    assert run(["compress", str(photo), "--codec", directory]) == 0
    file.write_bytes(file.read_bytes()[:18])
    assert run(["decompress", str(file), "--codec", directory, "--force"]) == 1
    assert "its check does not match" in capsys.readouterr().err
    assert run(["decompress", str(file), "--codec", directory, "--force", "--prefix"]) == 0
    assert read_image(photo).shape == (3, 90, 120)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-bytes", "30", "--rate", "1"], "got --rate with --max-bytes or --bpp; give one of them"),
        (["--bpp", "0.1", "--online", "3"], "got --online with --max-bytes or --bpp; give one of them"),
        (["--bpp", "0"], "got max_bytes=0; an image of this size takes at least 8"),
        (["--max-bytes", "7"], "got max_bytes=7; an image of this size takes at least 8"),
    ],
)
def test_a_budget_that_cannot_be_is_one_line(directory, photo, capsys, words, message):
    assert run(["compress", str(photo), "--codec", directory, *words]) == 1
    assert message in capsys.readouterr().err
    assert not photo.with_suffix(".ulc").exists()


def test_an_evaluation_is_of_files_of_that_size(directory, photo, capsys):
    assert run(["evaluate", str(photo), "--codec", directory, "--bpp", "0.012", "--metrics", "psnr"]) == 0
    assert f"| tiny bpp=0.012 | {int(0.012 * 90 * 120 / 8)} |" in capsys.readouterr().out
    assert run(["evaluate", str(photo), "--codec", directory, "--max-bytes", "16", "--rate", "1"]) == 1
    assert "rate and max_bytes set the size of a file; give one of them" in capsys.readouterr().err
