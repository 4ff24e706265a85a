"""A file that its authors have published at an address."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError


@dataclass(frozen=True)
class PublishedFile:
    """A file at an address, kept in torch's cache once it was fetched."""

    url: str
    """Address of the file."""
    sha256: str = ""
    """The first digits of its SHA-256, as many as are known."""

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.url.rpartition("/")[2]

    def fetched(self) -> Path:
        """Return the path of the file in torch's cache, downloaded if necessary.

        Raises:
            ValueError: It cannot be fetched, or is another file than was published; one line says what to do.
        """
        import torch

        cached = Path(torch.hub.get_dir()) / "checkpoints" / self.name
        if not cached.is_file():
            cached.parent.mkdir(parents=True, exist_ok=True)
            try:
                torch.hub.download_url_to_file(self.url, str(cached))
            except (URLError, OSError) as error:
                reason = " ".join(str(getattr(error, "reason", error)).split())
                raise ValueError(f"cannot fetch {self.url}: {reason}; fetch it elsewhere and give its path") from error
        self.check(cached)
        return cached

    def check(self, path: Path) -> str:
        """Return the SHA-256 of a copy; ValueError where it is not that of the published file, as far as known."""
        digest = sha256_of(path)
        if not digest.startswith(self.sha256):
            raise ValueError(
                f"{path} is damaged or another file: its SHA-256 is {digest}, that of {self.url} begins with "
                f"{self.sha256}; remove it and get it again"
            )
        return digest


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
