"""How long a call takes."""

import time
from collections.abc import Callable
from typing import Any


def timed(work: Callable[[], Any], turns: int) -> tuple[float, Any]:
    """Return the CPU seconds of the fastest of some turns, and the result of the last."""
    seconds, result = [], None
    for _ in range(turns):
        start, result = time.process_time(), work()
        seconds.append(time.process_time() - start)
    return min(seconds), result
