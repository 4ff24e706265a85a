"""Encoded images and their captions, in image files or in tar shards."""

from __future__ import annotations

import glob
import tarfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ulcompress.captioning.captions import GUESSED, TEXT_SUFFIXES, caption_file, captions_of, is_unicode, parse_captions
from ulcompress.data.shard import Shard, read_shard
from ulcompress.data.span import Span
from ulcompress.functional.folders import files_below
from ulcompress.images import image_suffixes


class Sample(NamedTuple):
    """One image as it is stored."""

    name: str
    """Path of the file, or of the shard and the member."""
    data: bytes
    """The encoded image."""
    captions: list[str]
    """Zero, one or more captions."""


class Entry(NamedTuple):
    """The location of one image and of its captions."""

    name: str
    image: Span
    text: Span | None
    override: list[str] | None = None
    """Captions from a captions file, which replace those of the text."""

    def content(self) -> bytes:
        """Return the content of the text; empty where there is none, or where `override` replaces it."""
        return self.text.read() if self.text and self.override is None else b""

    def captions(self) -> list[str]:
        """Return the captions of `override`, else the lines of the text that are not blank."""
        return captions_of(self.content()) if self.override is None else self.override


class Survey(NamedTuple):
    """The captions of a source."""

    captions: list[str]
    """All captions of all images, in order."""
    captioned: int
    """Number of images that have a caption."""
    guessed: list[str]
    """Images whose caption file is not Unicode and was read as Windows-1252."""


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
        return self.survey().captions

    def survey(self) -> Survey:
        """Read all captions, and no image; raises OSError."""
        captions: list[str] = []
        captioned = 0
        guessed: list[str] = []
        for entry in self._entries:
            content = entry.content()
            found = captions_of(content) if entry.override is None else entry.override
            captions += found
            captioned += bool(found)
            guessed += [] if is_unicode(content) else [entry.name]
        return Survey(captions, captioned, guessed)


def open_source(paths: str | list[str], captions: str | None = None) -> ImageSource:
    """Open images by path: folders, image files, uncompressed `.tar` shards, glob patterns, or a list of these.

    Folders are searched recursively. Captions are in `<stem>.txt` beside `<stem>.<image suffix>`, in a folder as in a
    shard, one caption a line; or in `captions`, a file of JSON lines as `ulcompress caption --out` writes it, whose
    paths match the ends of the images' paths. Raises ValueError for what is missing, empty or unreadable.
    """
    patterns = [paths] if isinstance(paths, str) else list(paths)
    files = [file for pattern in patterns for file in _expand(pattern)]
    shards = {file: _shard(file) for file in files if file.suffix.lower() == ".tar"}
    _warn_of_losses(shards)
    entries = [entry for file in files for entry in _entries(file, shards.get(file))]
    if not entries:
        raise ValueError(f"got {paths!r}, which holds no images; give folders, image files or .tar shards")
    return ImageSource(entries=entries if captions is None else _captioned(entries, Path(captions)))


def _captioned(entries: list[Entry], file: Path) -> list[Entry]:
    if not file.is_file():
        raise ValueError(f"no captions file {str(file)!r}; `ulcompress caption IMAGES --out FILE` writes one")
    content = file.read_bytes()
    if not is_unicode(content):
        warnings.warn(f"{file} {GUESSED}", stacklevel=3)
    known = parse_captions(content, str(file))
    by_end = {PurePosixPath(name).parts[::-1]: captions for name, captions in known.items()}
    longest = max(map(len, by_end), default=0)

    def find(name: str) -> list[str] | None:
        parts = PurePosixPath(name).parts[::-1]
        return next((by_end[parts[:n]] for n in range(longest, 0, -1) if parts[:n] in by_end), None)

    found = [entry._replace(override=find(entry.name)) for entry in entries]
    if all(entry.override is None for entry in found):
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


def _entries(file: Path, shard: Shard | None) -> list[Entry]:
    if shard is not None:
        return _shard_entries(file, shard)
    if file.suffix.lower() not in image_suffixes():
        raise ValueError(f"got {str(file)!r}, neither an image nor an uncompressed .tar shard; convert or unpack it")
    text = caption_file(file)
    return [Entry(str(file), Span(file), Span(text) if text else None)]


def _shard(file: Path) -> Shard:
    try:
        return read_shard(file)
    except (tarfile.TarError, OSError) as error:
        raise ValueError(f"{file}: not a readable uncompressed tar file ({error}); write it again") from error


def _shard_entries(file: Path, shard: Shard) -> list[Entry]:
    images = {name: span for name, span in shard.members.items() if _is_image(name)}
    if not images:
        raise ValueError(f"{file}: no images in this shard; it needs members such as key.webp and key.txt")
    return [Entry(f"{file}/{name}", span, _text_beside(name, shard)) for name, span in images.items()]


def _text_beside(name: PurePosixPath, shard: Shard) -> Span | None:
    return next((text for suffix in TEXT_SUFFIXES if (text := shard.members.get(name.with_suffix(suffix)))), None)


def _is_image(name: PurePosixPath) -> bool:
    return name.suffix.lower() in image_suffixes() and not name.name.startswith(".")


def _warn_of_losses(shards: Mapping[Path, Shard]) -> None:
    """Warn once of all images and captions in shards that cannot be read, and once of shards that may be cut."""
    skipped = [
        f"{str(file / name)!r} ({why})"
        for file, shard in shards.items()
        for name, why in shard.skipped.items()
        if _is_image(name) or name.suffix in TEXT_SUFFIXES
    ]
    if skipped:
        warnings.warn(f"members of shards that are left out: {len(skipped)}, first {skipped[0]}", stacklevel=3)
    complaints = [f"{file} {shard.complaint}" for file, shard in shards.items() if shard.complaint]
    if complaints:
        message = f"{complaints[0]}; write it again if images are missing"
        more = len(complaints) - 1
        warnings.warn(message + (f"; so for {more} more" if more else ""), stacklevel=3)
