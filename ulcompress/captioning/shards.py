"""Shards with captions: copies of shards in which a text file lies beside each image."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from ulcompress.captioning.captions import TEXT_SUFFIXES, CaptionFile
from ulcompress.data.index import Container
from ulcompress.data.locations import SHARDS, suffix
from ulcompress.data.shard import add_member, read_shard
from ulcompress.data.sources import ImageSource
from ulcompress.data.storage import is_pipe, read_spans
from ulcompress.files import whole_file

AT_ONCE = 64
"""Members that are in memory at the same time."""


def shard_paths(source: ImageSource, folder: Path) -> dict[int, Path]:
    """Return where `write_shards` writes each shard of a source, by the number of its container.

    Compressed shards, Parquet and the output of commands become `.tar`.

    Raises:
        ValueError: Two shards have one name, or one would be written over itself.
    """
    containers = source.index.containers
    paths = {
        number: folder / _name(container, number) for number, container in enumerate(containers) if container.shard
    }
    owners: dict[Path, str] = {}
    for number, path in paths.items():
        location = containers[number].location
        if (other := owners.setdefault(path, location)) != location:
            raise ValueError(f"{other} and {location} would both be written to {path}; caption them apart")
        if path.exists() and os.path.exists(location) and path.samefile(location):
            raise ValueError(f"{location} would be written over itself; give --out another folder")
    return paths


def write_shards(source: ImageSource, captions: CaptionFile, targets: Mapping[int, Path]) -> list[Path]:
    """Write shards of a source again, with `<key>.txt` beside each image that has a caption.

    A caption of the file takes the place of those in the shard; all other members stay, in their order. A target that
    is not older than the file of captions is left as it is, so that an interrupted run continues.

    Args:
        source: The shards.
        captions: Captions of their images.
        targets: Where each is written, by the number of its container; see `shard_paths`.

    Returns:
        Paths of the shards that were written.

    Raises:
        OSError: A shard cannot be read or written.
    """
    changed = captions.path.stat().st_mtime_ns
    wanted = [n for n in targets if not targets[n].exists() or targets[n].stat().st_mtime_ns < changed]
    known = captions.read() if wanted else {}
    for number in wanted:
        inside = len(f"{source.index.containers[number].location}/")
        names = map(source.name, range(source.index.starts[number], source.index.starts[number + 1]))
        found = {PurePosixPath(name[inside:]): known.get(captions.key(Path(name))) for name in names}
        with whole_file(targets[number]) as file:
            _copy(source.place(number), file, {name: texts for name, texts in found.items() if texts})
    return [targets[number] for number in wanted]


def _name(container: Container, number: int) -> str:
    if is_pipe(container.location):
        return f"{number:06d}.tar"
    name = PurePosixPath(container.location.split("?")[0]).name
    return f"{name[: -len(suffix(name))]}.tar" if suffix(name) in SHARDS else f"{name}.tar"


def _copy(place: str | Path, file: IO[bytes], captions: Mapping[PurePosixPath, list[str]]) -> None:
    """Copy the members of a tar file, and write the captions of images, by their names, behind them."""
    members = read_shard(place).members
    replaced = {name.with_suffix(end) for name in captions for end in TEXT_SUFFIXES}
    kept = [name for name in members if name not in replaced]
    with tarfile.open(fileobj=file, mode="w") as tar:
        written: set[PurePosixPath] = set()
        for start in range(0, len(kept), AT_ONCE):
            names = kept[start : start + AT_ONCE]
            for name, content in zip(names, read_spans([members[name] for name in names]), strict=True):
                if isinstance(content, OSError):
                    raise content
                add_member(tar, str(name), content)
                text = name.with_suffix(TEXT_SUFFIXES[0])
                if name in captions and text not in written:
                    add_member(tar, str(text), "".join(f"{caption}\n" for caption in captions[name]).encode())
                    written.add(text)
