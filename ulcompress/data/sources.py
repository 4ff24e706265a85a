"""Where encoded images and their captions lie: in image files, or in tar shards."""

from __future__ import annotations

import glob
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ulcompress.captions import parse_captions
from ulcompress.folders import files_below
from ulcompress.images import image_suffixes


class Sample(NamedTuple):
    """One image as it is stored."""

    name: str
    """Path of the file, or of the shard and the member."""
    data: bytes
    """The encoded image."""
    captions: list[str]
    """None, one or more."""


class Span(NamedTuple):
    """Some bytes of a file; by default all of them."""

    path: Path
    offset: int = 0
    size: int = -1

    def read(self) -> bytes:
        """Return the bytes; raises OSError."""
        # Opened for each read: there is no handle that forked workers could share by mistake.
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) < self.size:
            raise OSError(f"{self.path} ends early, it was changed or truncated")
        return data


class Entry(NamedTuple):
    """Where one image and its captions lie."""

    name: str
    image: Span
    text: Span | None
    given: list[str] | None = None
    """Captions from elsewhere, which win over the text."""

    def captions(self) -> list[str]:
        """Return the captions that are given, else the lines of the text that are not blank."""
        if self.given is not None:
            return self.given
        lines = self.text.read().decode(errors="replace").splitlines() if self.text else []
        return [line.strip() for line in lines if line.strip()]


class ImageSource:
    """A sequence of encoded images, read one by one from disk; safe to share with workers."""

    def __init__(self, *, entries: Sequence[Entry]):
        self._entries = list(entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Sample:
        """Read one image and its captions; raises OSError."""
        entry = self._entries[index]
        return Sample(entry.name, entry.image.read(), entry.captions())

    def name(self, index: int) -> str:
        """Return the name of one image without reading it."""
        return self._entries[index].name

    def captions(self) -> list[str]:
        """Return all captions of all images, in order, without reading any image."""
        return [caption for entry in self._entries for caption in entry.captions()]


def open_source(paths: str | list[str], captions: str | None = None) -> ImageSource:
    """Open images by path: folders, image files, uncompressed `.tar` shards, glob patterns, or a list of these.

    Folders are searched below. Captions lie in `<stem>.txt` beside `<stem>.<image suffix>`, in a folder as in a
    shard, one caption a line; or in `captions`, a file of JSON lines as `ulcompress caption --out` writes it, whose
    paths are the ends of the images' own. Raises ValueError for what is missing, empty or unreadable.
    """
    given = [paths] if isinstance(paths, str) else list(paths)
    files = [file for path in given for file in _expand(path)]
    entries = [entry for file in files for entry in _entries(file)]
    if not entries:
        raise ValueError(f"got {paths!r}, which holds no images; give folders, image files or .tar shards")
    return ImageSource(entries=entries if captions is None else _captioned(entries, Path(captions)))


def _captioned(entries: list[Entry], file: Path) -> list[Entry]:
    if not file.is_file():
        raise ValueError(f"no captions file {str(file)!r}; `ulcompress caption IMAGES --out FILE` writes one")
    known = parse_captions(file.read_bytes(), str(file))
    by_end = {PurePosixPath(name).parts[::-1]: captions for name, captions in known.items()}
    longest = max(map(len, by_end), default=0)

    def find(name: str) -> list[str] | None:
        parts = PurePosixPath(name).parts[::-1]
        return next((by_end[parts[:n]] for n in range(longest, 0, -1) if parts[:n] in by_end), None)

    found = [entry._replace(given=find(entry.name)) for entry in entries]
    if all(entry.given is None for entry in found):
        raise ValueError(f"{file} has captions of none of the images, of which {entries[0].name} is the first")
    return found


def _expand(path: str) -> list[Path]:
    here = Path(path).expanduser()
    if here.is_file():
        return [here]
    matches = [here] if here.is_dir() else list(map(Path, glob.glob(str(here), recursive=True)))
    if not matches:
        raise ValueError(f"got {path!r}: no such file or folder, and as a pattern it matches nothing; check the path")
    suffixes = image_suffixes() | {".tar"}
    found = {file for match in matches if match.is_dir() for file in files_below(match, suffixes)}
    found |= {match for match in matches if match.is_file() and match.suffix.lower() in suffixes}
    if not found:
        raise ValueError(f"got {path!r}, which holds neither images nor .tar shards; give a path that does")
    return sorted(found)


def _entries(file: Path) -> list[Entry]:
    if file.suffix.lower() == ".tar":
        return _shard_entries(file)
    if file.suffix.lower() not in image_suffixes():
        raise ValueError(f"got {str(file)!r}, neither an image nor an uncompressed .tar shard; convert or unpack it")
    text = file.with_suffix(".txt")
    return [Entry(str(file), Span(file), Span(text) if text.is_file() else None)]


def _shard_entries(file: Path) -> list[Entry]:
    members: dict[PurePosixPath, Span] = {}
    try:
        with tarfile.open(file, "r:") as shard:  # not compressed: members are read by their offset
            for member in shard:
                if member.isreg() and not PurePosixPath(member.name).name.startswith("."):
                    members[PurePosixPath(member.name)] = Span(file, member.offset_data, member.size)
    except (tarfile.TarError, OSError) as error:
        raise ValueError(f"{file}: not a readable uncompressed tar file ({error}); write it again") from error
    suffixes = image_suffixes()
    images = {name: span for name, span in members.items() if name.suffix.lower() in suffixes}
    if not images:
        raise ValueError(f"{file}: no images in this shard; it needs members such as key.webp and key.txt")
    return [Entry(f"{file}/{name}", span, members.get(name.with_suffix(".txt"))) for name, span in images.items()]
