import errno
import os
import signal
import stat
import subprocess
import sys
import time
from multiprocessing import get_context

import pytest

from ulcompress.files import STALE, is_stream, whole_file, write_whole


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_often(path, letter):
    for _ in range(50):
        write_whole(path, letter * 100_000)


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "file"
    with whole_file(path) as file:
        file.write(b"one")
        assert not path.exists() and all(name.startswith(".") for name in names(tmp_path))
    assert path.read_bytes() == b"one" and names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_whatever_ends_a_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error), whole_file(path) as file:
        file.write(b"new")
        raise error
    assert path.read_bytes() == b"old" and names(tmp_path) == ["file"]


def test_a_full_disk_is_one_line_and_the_old_file_stays(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"file: cannot be written \(No space left on device\)$"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old" and names(tmp_path) == ["file"]


def test_a_folder_that_is_missing_and_a_folder_as_the_target_are_one_line(tmp_path):
    with pytest.raises(OSError, match=r"none/file: cannot be written \(No such file or directory\)$"):
        write_whole(tmp_path / "none" / "file", b"")
    with pytest.raises(OSError, match=r"cannot be written \(Is a directory\)$"):
        write_whole(tmp_path, b"")
    assert names(tmp_path) == []


def test_permissions_are_those_of_any_new_file_or_of_the_old_one(tmp_path):
    path = tmp_path / "file"
    before = os.umask(0o027)
    try:
        write_whole(path, b"new")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        write_whole(path, b"newer")
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
    finally:
        os.umask(before)


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("away/file")
    write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "away" / "file").read_bytes() == b"new"


def test_a_link_to_itself_is_one_line(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match=r"loop: cannot be written \(Too many levels of symbolic links\)$"):
        write_whole(tmp_path / "loop", b"new")
    assert names(tmp_path) == ["loop"]


@pytest.mark.parametrize("name", ["長" * 85, "x" * 255])
def test_a_name_of_255_bytes_is_written(tmp_path, name):
    write_whole(tmp_path / name, b"data")
    assert (tmp_path / name).read_bytes() == b"data"


def test_devices_and_pipes_are_written_directly(tmp_path):
    write_whole("/dev/null", b"data")
    assert is_stream("/dev/null") and not is_stream(tmp_path) and not is_stream(tmp_path / "none")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(pipe, b"data")
    assert os.read(reader, 10) == b"data" and stat.S_ISFIFO(pipe.stat().st_mode)
    os.close(reader)


def test_two_writers_of_one_path_do_not_mix(tmp_path):
    path = tmp_path / "file"
    context = get_context("fork" if sys.platform == "linux" else "spawn")
    writers = [context.Process(target=write_often, args=(path, letter)) for letter in (b"a", b"b")]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            data = path.read_bytes()
            assert len(data) == 100_000 and len(set(data)) == 1
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0] and names(tmp_path) == ["file"]


def test_only_what_was_left_long_ago_is_removed(tmp_path):
    stale, fresh, other = (tmp_path / name for name in (".ulcompress-0.partial", ".ulcompress-1.partial", ".mine"))
    for path in (stale, fresh, other):
        path.write_bytes(b"")
    for path in (stale, other):
        os.utime(path, (time.time() - STALE - 60,) * 2)
    write_whole(tmp_path / "file", b"")
    assert names(tmp_path) == [".mine", ".ulcompress-1.partial", "file"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_during_a_write_leaves_nothing_and_is_no_success(tmp_path, number, status):
    code = (
        "import sys, time\nfrom ulcompress.commands import main\nfrom ulcompress.files import whole_file\n"
        "def action(_):\n"
        f"    with whole_file({str(tmp_path / 'file')!r}) as file:\n"
        "        print('writing', flush=True)\n        time.sleep(60)\n"
        "main.info.run = action\nsys.argv[1:] = ['info', 'x']\nmain.main()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"writing\n"
        assert len(names(tmp_path)) == 1
        process.send_signal(number)
        error = process.communicate()[1].decode()
    assert process.returncode == status and names(tmp_path) == []
    assert error.startswith("ulcompress: ") and error.count("\n") == 1
