"""Makes the index of a set of images once, and notices what has changed since."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.progress import track

from ulcompress.data.cache import cache_folder
from ulcompress.data.index import Container, Index, SampleTable, joined
from ulcompress.data.locations import expand, is_shard
from ulcompress.data.storage import is_local, properties
from ulcompress.data.tables import folder_table, images_table, listing_of, shard_table, shards_in
from ulcompress.functional.lines import one_line

LARGE = 10_000
"""Number of samples from which on an index is kept; one of shards elsewhere, or of copied ones, is kept always."""
AT_ONCE = 16
"""Number of shards that are read at the same time."""


def make_index(patterns: Sequence[str], caption_field: str | None = None, *, check: bool = True) -> Index:
    """Return the index of the images that some patterns name (see `locations.expand`).

    A large one is kept in the cache folder, and what has not changed is taken from there: shards by their size, time
    and checksums, folders by the times of modification of all that were searched. Shards that cannot be read after
    several attempts are left out with a warning, and tried again the next time. What was indexed when it is interrupted
    is kept.

    Args:
        patterns: Folders, image files and shards.
        caption_field: Field of `<key>.json`, or column of Parquet, with the captions; None for `<key>.txt` alone.
        check: Whether to look for changes. A process whose neighbour has just done so need not.

    Raises:
        ValueError: Nothing is there, or no shard can be read.
    """
    folder = index_folder(patterns, caption_field)
    kept = load_index(folder)
    if kept is not None and not check:
        return kept
    making = _Making(kept, caption_field)
    try:
        making.run(patterns)
    except BaseException:
        if making.has_news:
            keep(making.joined(rest=True), folder)
        raise
    making.report()
    if making.is_kept and kept is not None:
        return kept
    return keep(making.joined(), folder)


def index_folder(patterns: Sequence[str], caption_field: str | None, *more: str) -> Path:
    """Return the folder in which the index of some patterns is kept."""
    places = [os.path.abspath(os.path.expanduser(place)) if is_local(place) else place for place in patterns]
    key = hashlib.sha256(json.dumps([places, list(patterns), caption_field, *more]).encode())
    return cache_folder("indices") / key.hexdigest()[:32]


def load_index(folder: Path) -> Index | None:
    """Return the index that is kept in a folder, if there is one."""
    with suppress(OSError, ValueError, TypeError, KeyError):  # none, or of another version
        return Index.load(folder)
    return None


def keep(index: Index, folder: Path, **about: str) -> Index:
    """Write an index to its folder and map it from there, if it is large, or if it is of shards elsewhere or copied.

    Otherwise an older one is removed.
    """
    if len(index) < LARGE and not any(
        container.copied or not is_local(container.location) for container in index.containers
    ):
        shutil.rmtree(folder, ignore_errors=True)
        return index
    try:
        index.save(folder, **about)
        return Index.load(folder)
    except OSError as error:
        warnings.warn(f"the index of the images cannot be kept, it is made anew the next time: {error}", stacklevel=2)
        return index


class _Making:
    """An index while it is made; its containers are tables, or numbers of containers of the index that is kept."""

    def __init__(self, kept: Index | None, caption_field: str | None):
        self.containers: list[SampleTable | int] = []
        self._kept = kept
        self._field = caption_field
        self._failures: list[str] = []
        containers = kept.containers if kept is not None else []
        self._known = {container.location: number for number, container in enumerate(containers) if container.location}

    @property
    def is_kept(self) -> bool:
        """Whether the index that is kept is the one that was made."""
        kept = self._kept
        return (
            kept is not None
            and self.containers == list(range(len(kept.containers)))
            and self._failures == kept.failures
        )

    def run(self, patterns: Sequence[str]) -> None:
        """Find all containers."""
        found = [container for pattern in patterns for container in self._found(pattern)]
        shards = [container for container in found if isinstance(container, str)]
        console = Console(stderr=True, quiet=len(shards) < AT_ONCE)
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            read = iter(track(pool.map(self._shard, shards), "indexing", len(shards), console=console, transient=True))
            for container in found:
                if (table := next(read) if isinstance(container, str) else container) is not None:
                    self.containers.append(table)
        finally:
            pool.shutdown(cancel_futures=True)

    @property
    def has_news(self) -> bool:
        """Whether there are containers that are not in the index that is kept."""
        return any(isinstance(container, SampleTable) for container in self.containers)

    def joined(self, *, rest: bool = False) -> Index:
        """Return the index of all containers; with `rest` also of those that are kept and were not come to yet."""
        tables = [
            container if isinstance(container, SampleTable) else self._old.table(container)
            for container in self.containers
        ]
        if rest:
            come_to = {table.container.location for table in tables}
            tables += [self._old.table(number) for place, number in self._known.items() if place not in come_to]
        return joined(tables, self._failures)

    def report(self) -> None:
        """Warn once of shards that cannot be read, of images and captions in shards, and of shards that may be cut.

        Raises:
            ValueError: Shards cannot be read, and there is nothing else.
        """
        if self._failures and not self.containers:
            raise ValueError(self._failures[0])
        tables = [container for container in self.containers if isinstance(container, SampleTable)]
        skipped = [member for table in tables for member in table.skipped]
        complaints = [table.complaint for table in tables if table.complaint]
        if self._failures:
            _warn(f"shards that are left out: {len(self._failures)}, first {self._failures[0]}")
        if skipped:
            _warn(f"members of shards that are left out: {len(skipped)}, first {skipped[0]}")
        if complaints:
            more = f"; so for {len(complaints) - 1} more" if len(complaints) > 1 else ""
            _warn(f"{complaints[0]}; write it again if images are missing{more}")

    @property
    def _old(self) -> Index:
        assert self._kept is not None, "only numbers of its containers need it"
        return self._kept

    def _found(self, pattern: str) -> Iterator[SampleTable | int | str]:
        """Yield the containers of a pattern; of a shard its location, as it is not read yet."""
        empty = True
        for kind, group in groupby(expand(pattern), key=_kind):
            for container in self._folders(group) if kind == "folder" else self._files(kind, group):
                empty = False
                yield container
        if empty:
            raise ValueError(f"got {pattern!r}, which holds neither images nor .tar shards; give a path that does")

    def _files(self, kind: str, places: Iterable[str]) -> Iterator[SampleTable | str]:
        if kind == "shard":
            yield from places
        else:
            yield images_table(list(places), self._field)

    def _folders(self, folders: Iterable[str]) -> Iterator[SampleTable | int | str]:
        for folder in folders:
            number = self._known.get(folder)
            if number is not None and _is_as_it_was(self._old.containers[number]):
                yield number
                yield from self._old.containers[number].shards
                continue
            listing = listing_of(folder)
            table = folder_table(listing, folder, self._field)
            table.container.shards = shards_in(listing)
            if len(table.samples) or table.container.shards:
                yield table
                yield from table.container.shards

    def _shard(self, location: str) -> SampleTable | int | None:
        """Return a shard that is known, or read it; None if that fails."""
        try:
            stamp = properties(location)
            number = self._known.get(location)
            if number is not None and self._old.containers[number].stamp == stamp:
                return number
            return shard_table(location, stamp, self._field)
        except (ValueError, OSError) as error:
            self._failures.append(one_line(error))
            return None


def _kind(location: str) -> str:
    return "folder" if os.path.isdir(location) else "shard" if is_shard(location) else "image"


def _is_as_it_was(folder: Container) -> bool:
    """Say whether nothing was added to a folder, or to one below it, and nothing removed or renamed."""
    try:
        return bool(folder.stamp) and all(os.stat(path).st_mtime_ns == time for path, time in folder.stamp.items())
    except OSError:
        return False


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=5)
