"""A range of bytes in a file."""

import os
from typing import NamedTuple


class Span(NamedTuple):
    """A range of bytes in a file; by default all of them."""

    path: str | os.PathLike[str]
    """A path, or a URL, which `storage.read_spans` reads."""
    offset: int = 0
    size: int = -1

    def read(self) -> bytes:
        """Return the bytes of a file on this machine; raises OSError."""
        # Opened for each read, so that forked workers do not share the position of one handle.
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) < self.size:
            raise OSError(f"{self.path} ends early, it was changed or truncated")
        return data
