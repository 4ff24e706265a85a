"""The files of a codec directory are replaced together, wherever a writer is killed."""

import subprocess
import sys
from pathlib import Path

import pytest

from ulcompress.pretrained import load, save
from ulcompress.pretrained.directory import FILES, STAGED, UPDATE, file_of, replaced

WRITER = """
import os, sys
from pathlib import Path
from ulcompress.pretrained import directory as codec_directory

steps, last = 0, int(sys.argv[2])

def step(event, arguments):
    global steps
    if any(sys.argv[1] in str(argument) for argument in arguments):
        if steps == last:
            os._exit(9)
        steps += 1

sys.addaudithook(step)
with codec_directory.replaced(Path(sys.argv[1])) as staged:
    for name in codec_directory.FILES:
        (staged / name).write_text("new")
"""


def write(directory, text):
    with replaced(directory) as staged:
        for name in FILES:
            (staged / name).write_text(text)


def texts(directory):
    return {file_of(directory, name).read_text() for name in FILES}


def test_a_writer_that_is_killed_at_any_step_leaves_the_old_files_or_the_new(tmp_path):
    directory, ends = tmp_path / "codec", []
    for step in range(100):
        write(directory, "old")
        arguments = [sys.executable, "-c", WRITER, str(directory), str(step)]
        killed = subprocess.run(arguments, timeout=60).returncode == 9
        ends.append(texts(directory))
        assert ends[-1] in ({"old"}, {"new"})
        write(directory, "next")
        assert texts(directory) == {"next"}
        assert sorted(path.name for path in directory.iterdir()) == sorted(FILES), "what was left over is gone"
        if not killed:
            break
    assert ends[0] == {"old"} and ends[-1] == {"new"} and len(ends) > 10


def test_an_error_leaves_nothing_behind(tmp_path):
    write(tmp_path, "old")
    with pytest.raises(KeyError), replaced(tmp_path) as staged:
        (staged / FILES[0]).write_text("new")
        raise KeyError
    assert texts(tmp_path) == {"old"}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)


def test_what_else_is_in_the_directory_stays(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    write(tmp_path, "new")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_two_writers_never_mix(tmp_path):
    script = """
import sys
from pathlib import Path
from ulcompress.pretrained.directory import FILES, replaced
for _ in range(30):
    with replaced(Path(sys.argv[1])) as staged:
        for name in FILES:
            (staged / name).write_text(sys.argv[2])
"""
    writers = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path), text]) for text in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert len({(tmp_path / name).read_text() for name in FILES}) == 1


def test_a_codec_loads_from_an_update_that_was_interrupted(tiny_codec, tiny_guided_codec, tmp_path):
    directory = tmp_path / "codec"
    save(tiny_codec, directory)
    save(tiny_guided_codec, tmp_path / "new")
    (tmp_path / "new").rename(directory / UPDATE)
    (directory / UPDATE / "config.yaml").replace(directory / "config.yaml")  # the one that was moved already
    (directory / STAGED).mkdir()
    assert load(directory).fingerprint == tiny_guided_codec.fingerprint
    save(tiny_codec, directory)
    assert load(directory).fingerprint == tiny_codec.fingerprint
    assert sorted(path.name for path in Path(directory).iterdir()) == sorted(FILES)
