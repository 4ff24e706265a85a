"""Work that processes share; most tests start two."""

import os
from importlib import import_module
from pathlib import Path

import pytest

from ulcompress.functional.processes import in_processes


@pytest.fixture
def shared(monkeypatch):
    """The module of what the processes do; they take over the path of this one."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return import_module("shared_work")


def test_results_come_in_the_order_of_the_items_whichever_process_is_first(shared, tmp_path):
    numbers, found = list(range(7)), []
    in_processes(shared.square_slowly, [(numbers[rank::2], tmp_path) for rank in range(2)], found.append, threads=3)
    assert found == [(number, number**2, "3") for number in numbers]


def test_a_process_that_ends_early_is_an_error_after_the_results_of_the_others(shared):
    found, shares = [], ["killed", "whole", "left"]
    with pytest.raises(ValueError, match="2 of 3 processes ended early; what is done is kept, run it again"):
        in_processes(shared.end, shares, found.append, threads=1)
    assert found == shares


def test_an_error_of_a_process_is_that_of_the_work(shared):
    with pytest.raises(ValueError, match=r"^no such codec$"):
        in_processes(shared.refuse, ["codec", "codec"], lambda _: None, threads=1)


def test_ctrl_c_ends_the_processes_after_their_clean_up(shared, tmp_path):
    found = []

    def interrupt(pid):
        found.append(pid)
        if len(found) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_processes(shared.wait, [tmp_path, tmp_path], interrupt, threads=1)
    assert {path.name for path in tmp_path.iterdir()} == set(map(str, found))
    assert not any(Path(f"/proc/{pid}").is_dir() for pid in found)


def test_a_single_share_is_done_in_this_process():
    found = []
    in_processes(lambda share, report: report((share, os.getpid())), ["it"], found.append, threads=1)
    assert found == [("it", os.getpid())]
