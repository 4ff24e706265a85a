"""The working memory of a call."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")
RESET_PEAK = "5"
"""What `/proc/self/clear_refs` takes to forget the peak so far; proc(5)."""


def working_memory(function: Callable[[], T], device: torch.device) -> tuple[T, int | None]:
    """Call a function; return its result and by how many bytes the memory at its peak was above that before the call.

    On a CUDA device that is what torch has allocated there; otherwise what the whole process has resident, for which
    Linux is asked. What was held before, such as weights, does not count; neither does, on a CPU, what the process has
    freed and kept for later use. None where nobody can tell.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        return function(), torch.cuda.max_memory_allocated(device) - before
    before = _resident_peak() if _forget_peak() else None
    result = function()
    peak = _resident_peak()
    return result, None if before is None or peak is None else max(0, peak - before)


def _forget_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    except OSError:
        return False
    return True


def _resident_peak() -> int | None:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(found[1]) if found else None
