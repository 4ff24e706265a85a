import sys
from types import SimpleNamespace

import pytest
import torch

from ulcompress.evaluation.memory import working_memory

MEBIBYTE = 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_what_was_held_before_does_not_count():
    held = b"x" * (200 * MEBIBYTE)
    memories = []
    for _ in range(5):  # the kernel may take pages of libraries back at any moment, and the number falls by them
        result, memory = working_memory(lambda: len(b"x" * (60 * MEBIBYTE)), torch.device("cpu"))
        assert result == 60 * MEBIBYTE
        memories.append(memory)
    assert len(held) and (None in memories or any(50 * MEBIBYTE < memory < 100 * MEBIBYTE for memory in memories))


def test_nor_does_it_on_a_gpu(monkeypatch):
    told = {"reset_peak_memory_stats": None, "memory_allocated": 700, "max_memory_allocated": 1000}
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(**{name: lambda _, v=v: v for name, v in told.items()}))
    assert working_memory(lambda: "result", torch.device("cuda")) == ("result", 300)


def test_nothing_is_told_where_the_peak_cannot_be_forgotten(monkeypatch):
    monkeypatch.setattr("ulcompress.evaluation.memory._forget_peak", lambda: False)
    assert working_memory(lambda: 1, torch.device("cpu")) == (1, None)
