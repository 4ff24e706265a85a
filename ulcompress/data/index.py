"""Where each sample of a set lies: a table of 33 bytes a sample, which processes share.

The table of a large set is a file that is mapped into memory, so that it is in memory once, whatever the number of
processes, and only in the parts that are read.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

from ulcompress.captioning.captions import TEXT_SUFFIXES
from ulcompress.data.span import Span

BESIDE = (*TEXT_SUFFIXES, ".json")
"""Suffixes of a file of captions beside an image; a sample's `text` is the place in this list."""
LONGEST_NAME = 4096
"""Bytes of the longest path, as on Linux."""
SAMPLE = np.dtype(
    [
        ("container", "<u4"),  # number of its container
        ("name", "<u4"),  # where its name begins, among those of its container
        ("offset", "<u8"),  # where the image begins in its shard
        ("size", "<u4"),
        ("caption", "u1"),  # kind of its captions
        ("text", "<u8"),  # where they begin, in the shard or in the index's own file; else the place in BESIDE
        ("text_size", "<u4"),
    ]
)


class CaptionKind(IntEnum):
    """In which form a sample has its captions."""

    NONE = 0
    LINES = 1
    """Text with one caption a line."""
    FIELD = 2
    """JSON with the captions in a field."""
    LISTED = 3
    """A list in JSON, in the index itself: captions from a file for all images."""


@dataclass
class Container:
    """The samples of one shard, of one folder, or of image files that were named."""

    location: str
    """The shard or the folder; empty for image files."""
    shard: bool
    stamp: Any = None
    """What changes when the content does; None if that would not be noticed."""
    copied: bool = False
    """Whether its samples are read from a local copy."""
    count: int = 0
    names: int = 0
    """Where its names begin among those of all containers."""
    names_size: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    """Number of files that are no samples, by their kind."""
    shards: list[str] = field(default_factory=list)
    """The shards in a folder, which are containers of their own."""


@dataclass
class SampleTable:
    """The samples of one container, while an index is made."""

    container: Container
    samples: np.ndarray
    names: bytes
    """Names that end with NUL."""
    skipped: list[str] = field(default_factory=list)
    """Members of a shard that cannot be read, each with the reason."""
    complaint: str | None = None
    """What is wrong with the end of a shard."""


class Index:
    """A sequence of the places of samples; what is mapped from a folder is opened anew in another process."""

    def __init__(
        self,
        containers: list[Container],
        samples: np.ndarray,
        names: bytes,
        listed: bytes = b"",
        failures: Sequence[str] = (),
    ):
        """Take what is in memory.

        Args:
            containers: The containers in order.
            samples: Their samples, of type SAMPLE.
            names: The names of all samples, each with a NUL at its end.
            listed: The captions of kind LISTED.
            failures: A line for each shard that is left out.
        """
        self.containers = containers
        self.failures = list(failures)
        self.samples = samples
        self.starts = np.cumsum([0, *(container.count for container in containers)]).tolist()
        """Index of the first sample of each container, and the number of all samples."""
        self._names: bytes | Path = names
        self._listed: bytes | Path = listed
        self.about: dict[str, str] = {}
        """What `save` was told, and an `identity` that no other index has; empty for one that is not kept."""
        self._descriptors: dict[Path, int] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def name(self, index: int) -> str:
        """Return the path of an image, or of its shard and the member."""
        sample = self.samples[index]
        container = self.containers[sample["container"]]
        start = container.names + int(sample["name"])
        name = os.fsdecode(self._bytes(self._names, start, LONGEST_NAME).partition(b"\0")[0])
        return f"{container.location}/{name}" if container.shard else os.path.join(container.location, name)

    def listed(self, index: int) -> list[str]:
        """Return the captions of a sample of kind LISTED."""
        sample = self.samples[index]
        return json.loads(self._bytes(self._listed, int(sample["text"]), int(sample["text_size"])))

    def with_captions(self, find: Callable[[str], list[str] | None]) -> Index:
        """Return an index with other captions, of kind LISTED, for each image to whose name `find` knows some."""
        samples, listed, place = np.array(self.samples), [], 0
        for index in range(len(self)):
            if (captions := find(self.name(index))) is not None:
                listed.append(json.dumps(captions).encode())
                samples["caption"][index] = CaptionKind.LISTED
                samples["text"][index], samples["text_size"][index] = place, len(listed[-1])
                place += len(listed[-1])
        names = self._names if isinstance(self._names, bytes) else self._names.read_bytes()
        return Index(self.containers, samples, names, b"".join(listed), self.failures)

    def table(self, number: int) -> SampleTable:
        """Return what a container consists of."""
        container, samples = self.containers[number], self.samples[self.starts[number] : self.starts[number + 1]]
        return SampleTable(
            replace(container), np.array(samples), self._bytes(self._names, container.names, container.names_size)
        )

    def save(self, folder: Path, **about: str) -> None:
        """Write the index to a folder, in place of an older one; who has that mapped keeps it."""
        staged = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        np.save(staged / "samples.npy", self.samples)
        for name, content in (("names", self._names), ("listed", self._listed)):
            (staged / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        about = {"identity": secrets.token_hex(8), **about}
        content = {
            "about": about,
            "failures": self.failures,
            "containers": [asdict(container) for container in self.containers],
        }
        (staged / "index.json").write_text(json.dumps(content))
        shutil.rmtree(folder, ignore_errors=True)
        staged.rename(folder)

    @classmethod
    def load(cls, folder: Path) -> Index:
        """Map an index from its folder; raises OSError or ValueError."""
        content = json.loads((folder / "index.json").read_text())
        containers = [Container(**container) for container in content["containers"]]
        samples = np.load(folder / "samples.npy", mmap_mode="r")
        if samples.dtype != SAMPLE:
            raise ValueError(f"{folder} has an index of another version")
        index = cls(containers, samples, b"", failures=content["failures"])
        index.about = content["about"]
        index._names, index._listed = folder / "names", folder / "listed"
        for path in (index._names, index._listed):  # before another process replaces the index
            index._descriptors[path] = os.open(path, os.O_RDONLY)
        return index

    def _bytes(self, content: bytes | Path, start: int, size: int) -> bytes:
        if isinstance(content, bytes):
            return content[start : start + size]
        # Read at a place, not mapped: what was read stays out of the process's memory, and forks share no position.
        return os.pread(self._descriptors[content], size, start)

    def __reduce__(self):
        """Let another process map the same files."""
        if isinstance(self._names, Path):
            return _load, (self._names.parent,)
        return Index, (self.containers, np.array(self.samples), self._names, self._listed, self.failures)

    def __del__(self):
        for descriptor in self._descriptors.values():
            os.close(descriptor)


def _load(folder: Path) -> Index:
    return Index.load(folder)


def joined(tables: Sequence[SampleTable], failures: Sequence[str] = ()) -> Index:
    """Return the index of several containers in order."""
    names = 0
    for number, table in enumerate(tables):
        table.samples["container"] = number
        table.container.count, table.container.names, table.container.names_size = (
            len(table.samples),
            names,
            len(table.names),
        )
        names += len(table.names)
    samples = np.concatenate([table.samples for table in tables]) if tables else np.zeros(0, SAMPLE)
    return Index(
        [table.container for table in tables], samples, b"".join(table.names for table in tables), b"", failures
    )


def span_beside(name: str, text: int) -> Span:
    """Return the file of captions beside an image file."""
    return Span(Path(os.path.splitext(name)[0] + BESIDE[text]))
