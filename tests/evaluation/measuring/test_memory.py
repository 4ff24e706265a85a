import sys
from types import SimpleNamespace

import pytest
import torch

from ulcompress.evaluation.measuring.memory import working_memory

MEBIBYTE = 2**20


class Kernel:
    """Stands in for Linux: the files of a process, whose memory the test sets."""

    def __init__(self, folder, *, forgets=True):
        self.folder, self.forgets = folder, forgets
        self.tell(resident=300, peak=900)

    def tell(self, *, resident, peak):
        self.resident = resident
        (self.folder / "status").write_text(f"Name:\tpython\nVmHWM:\t{peak * 1024} kB\nVmRSS:\t{resident * 1024} kB\n")

    def write_text(self, text):
        assert text == "5"
        if self.forgets:
            self.tell(resident=self.resident, peak=self.resident)

    def __truediv__(self, name):
        return self if name == "clear_refs" else self.folder / name


def used(kernel, monkeypatch):
    """Working memory of a call that has 360 MiB resident at its peak and leaves 310."""
    monkeypatch.setattr("ulcompress.evaluation.measuring.memory.PROCESS", kernel)
    result, memory = working_memory(lambda: kernel.tell(resident=310, peak=360) or "result", torch.device("cpu"))
    assert result == "result"
    return memory


def test_what_was_held_before_does_not_count(tmp_path, monkeypatch):
    assert used(Kernel(tmp_path), monkeypatch) == 60 * MEBIBYTE


def test_nothing_is_told_by_a_kernel_that_does_not_forget_the_peak(tmp_path, monkeypatch):
    assert used(Kernel(tmp_path, forgets=False), monkeypatch) is None


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_the_real_kernel_tells_no_more_than_what_was_used():
    _, memory = working_memory(lambda: len(b"x" * (60 * MEBIBYTE)), torch.device("cpu"))
    assert memory is None or memory < 100 * MEBIBYTE


def test_nor_does_it_on_a_gpu(monkeypatch):
    told = {"reset_peak_memory_stats": None, "memory_allocated": 700, "max_memory_allocated": 1000}
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(**{name: lambda _, v=v: v for name, v in told.items()}))
    assert working_memory(lambda: "result", torch.device("cuda")) == ("result", 300)


def test_nothing_is_told_where_the_peak_cannot_be_forgotten(monkeypatch):
    monkeypatch.setattr("ulcompress.evaluation.measuring.memory._forget_peak", lambda: False)
    assert working_memory(lambda: 1, torch.device("cpu")) == (1, None)
