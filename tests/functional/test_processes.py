"""Work that processes share; most tests start two."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from ulcompress.functional.processes import in_processes

PATIENCE = 60


def square_slowly(share, report):
    """The process of the even numbers begins when that of the odd ones has written a file."""
    numbers, folder = share
    if numbers[0] % 2 == 0:
        deadline = time.monotonic() + PATIENCE
        while not (folder / "odd").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    for number in numbers:
        report((number, number**2, os.environ["OMP_NUM_THREADS"]))
    if numbers[0] % 2:
        (folder / "odd").touch()


def test_results_come_in_the_order_of_the_items_whichever_process_is_first(tmp_path):
    numbers, found = list(range(7)), []
    in_processes(square_slowly, [(numbers[rank::2], tmp_path) for rank in range(2)], found.append, threads=3)
    assert found == [(number, number**2, "3") for number in numbers]


def end(share, report):
    report(share)
    if share == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if share == "left":
        sys.exit(0)


def test_a_process_that_ends_early_is_an_error_after_the_results_of_the_others():
    found, shares = [], ["killed", "whole", "left"]
    with pytest.raises(ValueError, match="2 of 3 processes ended early; what is done is kept, run it again"):
        in_processes(end, shares, found.append, threads=1)
    assert found == shares


def refuse(share, report):
    raise ValueError(f"no\nsuch {share}")


def test_an_error_of_a_process_is_that_of_the_work():
    with pytest.raises(ValueError, match="^no such codec$"):
        in_processes(refuse, ["codec", "codec"], lambda _: None, threads=1)


def wait(folder, report):
    report(os.getpid())
    try:
        time.sleep(PATIENCE)
    finally:
        (folder / str(os.getpid())).touch()


def test_ctrl_c_ends_the_processes_after_their_clean_up(tmp_path):
    found = []

    def interrupt(pid):
        found.append(pid)
        if len(found) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_processes(wait, [tmp_path, tmp_path], interrupt, threads=1)
    assert {path.name for path in tmp_path.iterdir()} == set(map(str, found))
    assert not any(Path(f"/proc/{pid}").is_dir() for pid in found)


def test_a_single_share_is_done_in_this_process():
    found = []
    in_processes(lambda share, report: report((share, os.getpid())), ["it"], found.append, threads=1)
    assert found == [("it", os.getpid())]
