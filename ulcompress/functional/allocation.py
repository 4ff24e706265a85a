"""One error message for all failed allocations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "size calculation overflowed")
"""Parts of the messages of torch's RuntimeErrors after a failed allocation, on CPUs and GPUs."""


@contextmanager
def allocating(what: str) -> Iterator[None]:
    """Turn whatever a failed allocation raises into MemoryError, in one line that names what it was for."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or any(sign in str(error) for sign in _SIGNS):
            raise MemoryError(f"not enough memory for {what}; take a smaller image, or a machine with more") from error
        raise
