"""The working memory of a call."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")
PROCESS = Path("/proc/self")
RESET_PEAK = "5"
"""The value written to `clear_refs` to reset the peak; proc(5)."""
SLACK = 2**24
"""Bytes by which the kernel's counts, kept a processor each, may differ from one another."""


def working_memory(function: Callable[[], T], device: torch.device) -> tuple[T, int | None]:
    """Call a function; return its result and by how many bytes the memory at its peak was above that before the call.

    On a CUDA device that is what torch has allocated there; otherwise what the whole process has resident, for which
    Linux is asked. What was held before, such as weights, does not count; neither does, on a CPU, what the process has
    freed and kept for later use. None where the system does not measure it.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        return function(), torch.cuda.max_memory_allocated(device) - before
    forgotten = _forget_peak()
    before = _resident()
    result = function()
    peak = _resident_peak()
    return result, max(0, peak - before) if forgotten else None


def _forget_peak() -> bool:
    """Reset the peak to what is resident now; return whether that worked, since some kernels accept and ignore it."""
    try:
        (PROCESS / "clear_refs").write_text(RESET_PEAK)
    except OSError:
        return False
    return 0 < _resident_peak() < _resident() + SLACK


def _resident() -> int:
    return _status("VmRSS")


def _resident_peak() -> int:
    return _status("VmHWM")


def _status(field: str) -> int:
    """Return a number of bytes of this process's status; 0 where the system does not state it."""
    try:
        found = re.search(rf"{field}:\s+(\d+) kB", (PROCESS / "status").read_text())
    except OSError:
        return 0
    return 1024 * int(found[1]) if found else 0
