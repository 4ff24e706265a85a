"""The time of a call."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def timed(function: Callable[[], T]) -> tuple[T, float]:
    """Call a function; return its result and the wall-clock seconds that it took."""
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start
