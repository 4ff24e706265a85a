"""Encoded images and their captions, in image files and in shards, here or elsewhere."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from ulcompress.captioning.captions import GUESSED, captions_in_field, captions_of, is_unicode, read_caption_file
from ulcompress.data.copies import local_copy
from ulcompress.data.index import CaptionKind, Index, span_beside
from ulcompress.data.indexing import index_folder, keep, load_index, make_index
from ulcompress.data.span import Span
from ulcompress.data.storage import is_local, properties, read_spans
from ulcompress.functional.lines import one_line
from ulcompress.images import ImageError, open_image

SURVEYED = 100_000
"""The most images whose captions are read before a training."""
_AT_ONCE = 256
"""Images whose captions are read at the same time."""


class Sample(NamedTuple):
    """One image as it is stored."""

    name: str
    """Path of the file, or of the shard and the member."""
    data: bytes
    """The encoded image."""
    captions: list[str]
    """Zero, one or more captions."""


class Survey(NamedTuple):
    """The captions of a source."""

    captions: list[str]
    """All captions of all images, in order; of at most SURVEYED images."""
    captioned: int
    """Number of images that have a caption; where not all were read, of those that have a file or a field for it."""
    guessed: list[str]
    """Images whose caption file is not Unicode and was read as Windows-1252."""


class ImageSource:
    """A sequence of encoded images, read one by one; safe to share with workers.

    A shard that cannot be read after several attempts counts as lost: its samples then fail at once in this process.
    """

    def __init__(self, *, index: Index, caption_field: str | None = None):
        self.index = index
        self._field = caption_field
        self._lost: set[int] = set()

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> Sample:
        """Read one image and its captions; raises OSError."""
        (sample,) = self.read([index])
        if isinstance(sample, OSError):
            raise sample
        return sample

    def read(self, indices: Sequence[int]) -> list[Sample | OSError]:
        """Read images and their captions, those of one storage at the same time; errors stand in their places."""
        images = self._contents(indices, self._image)
        texts = self._contents(indices, self._text)
        return [
            next((content for content in (image, text) if isinstance(content, OSError)), None)
            or Sample(self.name(index), image, self._captions(index, text))  # type: ignore
            for index, image, text in zip(indices, images, texts, strict=True)
        ]

    def image(self, index: int) -> Image.Image:
        """Decode one image as 8-bit RGB; raises ImageError."""
        try:
            return open_image(io.BytesIO(self[index].data), name=self.name(index))
        except OSError as error:
            raise ImageError(one_line(error)) from error

    def name(self, index: int) -> str:
        """Return the name of one image without reading it."""
        return self.index.name(index)

    def after(self, index: int) -> int:
        """Return the index of the sample that takes the place of one that cannot be read.

        It is the next one; for a sample of a shard that is lost it is the one at the same place of the next shard, so
        that not all of them are replaced by one.
        """
        starts, container = self.index.starts, int(self.index.samples["container"][index])
        if container in self._lost:
            for later in (*range(container + 1, len(starts) - 1), *range(container)):
                if later not in self._lost and (count := starts[later + 1] - starts[later]):
                    return starts[later] + (index - starts[container]) % count
        return (index + 1) % len(self)

    @property
    def streams(self) -> list[int] | None:
        """The number of samples of each container; None where all can be read in any order at no cost."""
        if all(is_local(container.location) and not container.copied for container in self.index.containers):
            return None
        return [container.count for container in self.index.containers]

    @property
    def left_out(self) -> dict[str, int]:
        """Number of files that are no samples, and of shards that cannot be read, by their kind."""
        failures = Counter({"shards": len(self.index.failures)})
        return dict(sum((Counter(container.left_out) for container in self.index.containers), +failures))

    def origin(self) -> str:
        """Describe in a few words where the images are from."""
        shards = [container.location for container in self.index.containers if container.shard]
        folders = [
            container.location
            for container in self.index.containers
            if not container.shard and container.location and container.count
        ]
        files = sum(container.count for container in self.index.containers if not container.location)
        return " and ".join(
            text
            for text in (
                _some("folder", folders),
                _some("shard", shards),
                f"{files} named file{'s' * (files > 1)}" if files else "",
            )
            if text
        )

    def captions(self) -> list[str]:
        """Return all captions, in order, without reading any image; of at most SURVEYED images."""
        return self.survey().captions

    def survey(self) -> Survey:
        """Read captions and no image, of all images or of SURVEYED that lie evenly; what cannot be read is none."""
        captions: list[str] = []
        captioned = 0
        guessed: list[str] = []
        indices = self._surveyed()
        for start in range(0, len(indices), _AT_ONCE):
            some = indices[start : start + _AT_ONCE]
            for index, text in zip(some, self._contents(some, self._text), strict=True):
                if isinstance(text, OSError):  # a training leaves this image out too, and counts it
                    continue
                found = self._captions(index, text)
                captions += found
                captioned += bool(found)
                guessed += [] if is_unicode(text) else [self.name(index)]
        if len(indices) < len(self):
            captioned = int(np.count_nonzero(self.index.samples["caption"]))
        return Survey(captions, captioned, guessed)

    def _surveyed(self) -> Sequence[int]:
        if len(self) <= SURVEYED:
            return range(len(self))
        if any(container.copied for container in self.index.containers):
            return range(SURVEYED)  # anything else would copy all shards
        return [place * len(self) // SURVEYED for place in range(SURVEYED)]

    def _contents(self, indices: Sequence[int], span: Callable[[int], Span | None]) -> list[bytes | OSError]:
        """Read a range of bytes for each sample; nothing where there is none."""
        found: dict[int, bytes | OSError] = {}
        spans: dict[int, Span] = {}
        for index in indices:
            try:
                place = span(index)
            except OSError as error:
                found[index] = error
                continue
            if place is None:
                found[index] = b""
            else:
                spans[index] = place
        for index, content in zip(spans, read_spans(list(spans.values())), strict=True):
            found[index] = content
            if isinstance(content, OSError):
                self._lose(int(self.index.samples["container"][index]))
        return [found[index] for index in indices]

    def _lose(self, number: int) -> None:
        """Remember a shard elsewhere that could not be read; files and shards on this machine cost no time."""
        if not is_local(self.index.containers[number].location):
            self._lost.add(number)

    def _image(self, index: int) -> Span:
        sample = self.index.samples[index]
        container = int(sample["container"])
        if not self.index.containers[container].shard:
            return Span(self.name(index))
        return Span(self.place(container), int(sample["offset"]), int(sample["size"]))

    def _text(self, index: int) -> Span | None:
        sample = self.index.samples[index]
        container, kind, text = int(sample["container"]), sample["caption"], int(sample["text"])
        if kind in (CaptionKind.NONE, CaptionKind.LISTED):
            return None
        if not self.index.containers[container].shard:
            return span_beside(self.name(index), text)
        return Span(self.place(container), text, int(sample["text_size"]))

    def place(self, number: int) -> str | Path:
        """Return where the shard of a number is read: where it is, or in a copy, which is made where there is none.

        Raises OSError where it cannot be read.
        """
        container = self.index.containers[number]
        if number in self._lost:
            raise OSError(f"{container.location} could not be read")
        if not container.copied:
            return container.location
        try:
            return local_copy(container.location, container.stamp, self._field)
        except (OSError, ValueError) as error:
            self._lost.add(number)
            raise OSError(one_line(error)) from error

    def _captions(self, index: int, text: bytes) -> list[str]:
        kind = self.index.samples["caption"][index]
        if kind == CaptionKind.LISTED:
            return self.index.listed(index)
        return captions_in_field(text, self._field) if kind == CaptionKind.FIELD and self._field else captions_of(text)


def _some(kind: str, places: Sequence[str]) -> str:
    if len(places) > 1:
        return f"{len(places)} {kind}s, the first one {places[0]}"
    return f"{kind} {places[0]}" if places else ""


def open_source(
    paths: str | list[str], captions: str | None = None, *, caption_field: str | None = None, check: bool = True
) -> ImageSource:
    """Open images by path or URL: folders, image files, shards, patterns and lists of them (see `locations.expand`).

    Folders are searched recursively. Captions are in `<stem>.txt` beside `<stem>.<image suffix>`, in a folder as in a
    shard, one caption a line; with `caption_field` also in this field of `<stem>.json`, or in this column of Parquet.

    Args:
        paths: What to open.
        captions: File with captions of many images, whose paths match the ends of the images' paths: JSON lines as
            `ulcompress caption --out` writes them, or COCO's `captions_*.json`. They replace those of the images.
        caption_field: Field or column of the captions.
        check: Whether an index that is kept is compared with what is there.

    Raises:
        ValueError: Something is missing, empty or unreadable.
    """
    patterns = [paths] if isinstance(paths, str) else list(paths)
    index = make_index(patterns, caption_field, check=check)
    if not len(index):
        raise ValueError(f"got {paths!r}, which holds no images; give folders, image files or .tar shards")
    if captions is not None:
        index = _captioned(index, captions, index_folder(patterns, caption_field, captions))
    return ImageSource(index=index, caption_field=caption_field)


def _captioned(index: Index, file: str, folder: Path) -> Index:
    """Return an index with the captions of a file; a large one is kept beside that without."""
    if not Path(file).is_file():
        raise ValueError(f"no captions file {file!r}; `ulcompress caption IMAGES --out FILE` writes one")
    about = {"of": index.about.get("identity", ""), "captions": properties(file)}
    kept = load_index(folder)
    if kept is not None and index.about and about.items() <= kept.about.items():
        return kept
    content = Path(file).read_bytes()
    if not is_unicode(content):
        warnings.warn(f"{file} {GUESSED}", stacklevel=3)
    found = index.with_captions(_finder(read_caption_file(content, file)))
    if not (found.samples["caption"] == CaptionKind.LISTED).any():
        raise ValueError(f"{file} has captions of none of the images, of which {index.name(0)} is the first")
    return keep(found, folder, **about)


def _finder(known: dict[str, list[str]]) -> Callable[[str], list[str] | None]:
    """Return the function from an image's path to the captions of the longest path that it ends with."""
    by_end = {PurePosixPath(name).parts[::-1]: captions for name, captions in known.items()}
    longest = max(map(len, by_end), default=0)

    def find(name: str) -> list[str] | None:
        parts = PurePosixPath(name).parts[::-1]
        return next((by_end[parts[:n]] for n in range(longest, 0, -1) if parts[:n] in by_end), None)

    return find
