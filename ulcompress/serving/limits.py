"""How much of the machine the page may take; known without importing torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of the page."""

    pixels: int = 1 << 22
    """Most pixels of an image, sent or restored."""
    megabytes: int = 32
    """Most MiB of a file that is sent."""
    steps: int = 1000
    """Most sampling steps."""
    seconds: float = 300
    """Longest time of a job, without the time for which it waits, and of the arrival of its file."""
    waiting: int = 8
    """Most jobs at a time, the running one included."""

    @property
    def bytes(self) -> int:
        """Most bytes of a file that is sent."""
        return self.megabytes << 20
