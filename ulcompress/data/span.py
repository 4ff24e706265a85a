"""A range of bytes in a file."""

from pathlib import Path
from typing import NamedTuple


class Span(NamedTuple):
    """A range of bytes in a file; by default all of them."""

    path: Path
    offset: int = 0
    size: int = -1

    def read(self) -> bytes:
        """Return the bytes; raises OSError."""
        # Opened for each read, so that forked workers do not share the position of one handle.
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) < self.size:
            raise OSError(f"{self.path} ends early, it was changed or truncated")
        return data
