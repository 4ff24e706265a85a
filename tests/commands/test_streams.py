"""Whole commands in processes of their own, whose standard streams are closed, unread, full or in ASCII."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ulcompress.commands.main import run
from ulcompress.images import read_image
from ulcompress.pretrained import save


@pytest.fixture
def folder(tiny_codec, tmp_path, monkeypatch):
    """The current folder, with a codec and images."""
    save(tiny_codec, tmp_path / "tiny")
    values = np.random.default_rng(0).integers(0, 256, (33, 50, 3), dtype=np.uint8)
    (tmp_path / "many").mkdir()
    for name in ("1", "2", "3"):
        Image.fromarray(values).save(tmp_path / "many" / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(words, **streams):
    arguments = [sys.executable, "-m", "ulcompress", *words.split()]
    return subprocess.run(arguments, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams, check=False)


def unread():
    """Return a pipe whose reader is gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def test_files_are_made_although_nobody_reads_of_them(folder):
    result = command("compress many --codec tiny", stdout=unread())
    assert (result.returncode, result.stderr) == (0, b"") and len(list(folder.glob("many/*.ulc"))) == 3


def test_a_failure_stays_one_where_nobody_reads_of_it(folder):
    (folder / "many" / "2.png").write_bytes(b"no image")
    assert command("compress many --codec tiny", stdout=unread(), stderr=unread()).returncode == 1
    assert sorted(path.name for path in folder.glob("many/*.ulc")) == ["1.ulc", "3.ulc"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_report_for_a_full_disk_is_lost_and_the_files_are_not(folder):
    with open("/dev/full", "wb") as full:
        result = command("compress many --codec tiny", stdout=full)
    assert result.returncode == 0 and len(list(folder.glob("many/*.ulc"))) == 3
    assert result.stderr.decode() == (
        "ulcompress: the report cannot be printed (No space left on device); the work goes on\n"
    )


@pytest.mark.parametrize("words", ["--help", "info many/1.ulc", "decompress many/1.ulc --codec tiny -o -"])
def test_what_is_printed_for_nobody_ends_quietly(folder, words):
    run(["compress", "many", "--codec", "tiny"])
    result = command(words, stdout=unread())
    assert result.stderr == b"" and result.returncode == (0 if words == "--help" else 141)


def test_names_that_a_terminal_cannot_show(folder):
    for number, name in enumerate(("日本.png", os.fsdecode(b"caf\xe9.png"), "a\nb\x1b.png"), 1):
        (folder / "many" / f"{number}.png").rename(folder / "many" / name)
    result = command("compress many --codec tiny", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.isascii() and result.stdout.count(b"\n") == 3 and b"\x1b" not in result.stdout
    assert len(list(folder.glob("many/*.ulc"))) == 3


def test_help_on_a_terminal_with_few_letters(folder):
    result = command("evaluate --help", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert result.returncode == 0 and b"Bj\\xf8ntegaard" in result.stdout


def test_one_image_through_standard_streams(folder):
    run(["compress", "many/1.png", "--codec", "tiny", "-o", "file.ulc"])
    coded = command("compress - --codec tiny", input=(folder / "many/1.png").read_bytes())
    assert coded.returncode == 0 and coded.stdout == (folder / "file.ulc").read_bytes()
    assert coded.stderr.decode().startswith("/dev/stdin -> /dev/stdout: ")
    restored = command("decompress - --codec tiny -o -", input=coded.stdout)
    (folder / "restored.png").write_bytes(restored.stdout)
    assert restored.returncode == 0 and read_image("restored.png").shape == (3, 33, 50)
    assert not os.path.lexists("-")


def test_closed_streams(folder):
    code = "import os, sys; os.close(1); os.close(2); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    words = [sys.executable, "-c", code, "-m", "ulcompress", "compress", "many", "--codec", "tiny"]
    assert subprocess.run(words, check=False).returncode == 0
    run(["compress", "many/1.png", "--codec", "tiny", "-o", "good.ulc"])
    assert (folder / "many/1.ulc").read_bytes() == (folder / "good.ulc").read_bytes()


def test_a_warning_of_ours_is_one_line(folder):
    (folder / "many" / "link.png").symlink_to("none")
    result = command("compress many --codec tiny")
    expected = "ulcompress: many/link.png is left out: it leads nowhere, No such file or directory\n"
    assert (result.returncode, result.stderr.decode()) == (0, expected)
