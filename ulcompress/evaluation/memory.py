"""The peak memory of a call."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")
RESET_PEAK = "5"
"""What `/proc/self/clear_refs` takes to forget the peak so far; proc(5)."""


def peak_memory(function: Callable[[], T], device: torch.device) -> tuple[T, int | None]:
    """Call a function; return its result and the most memory in bytes that was held meanwhile.

    On a CUDA device that is what torch has allocated there, weights included; otherwise what the whole process has
    resident, for which Linux is asked. None where nobody can tell.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return function(), torch.cuda.max_memory_allocated(device)
    known = _forget_peak()
    result = function()
    return result, _resident_peak() if known else None


def _forget_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    except OSError:
        return False
    return True


def _resident_peak() -> int | None:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(found[1]) if found else None
