"""The samples of folders, of image files, and of shards, found without reading an image."""

from __future__ import annotations

import os
import tarfile
import time
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

import numpy as np

from ulcompress.captioning.captions import TEXT_SUFFIXES
from ulcompress.data.copies import local_copy, needs_copy
from ulcompress.data.index import BESIDE, SAMPLE, CaptionKind, Container, SampleTable
from ulcompress.data.locations import SHARDS, suffix
from ulcompress.data.shard import Shard, read_shard
from ulcompress.data.span import Span
from ulcompress.data.storage import patiently
from ulcompress.functional.folders import Listing, list_folder
from ulcompress.images import image_suffixes

SETTLED = 2_000_000_000
"""Nanoseconds after which a further change of a folder also changes its time of modification, on any file system."""


def folder_table(listing: Listing, folder: str, caption_field: str | None) -> SampleTable:
    """Return the images of a folder that was listed, with the files of captions beside them."""
    images, texts = _images_and_texts(listing.files)
    inside = len(os.path.join(folder, "")) if folder != "." else 0
    container = Container(folder, shard=False, stamp=folder_stamp(listing.folders), left_out=dict(+listing.left_out))
    return _files_table(container, images, [image[inside:] for image in images], texts, caption_field)


def listing_of(folder: str) -> Listing:
    """List the images, the captions and the shards of a folder."""
    shards = {f".{end.rpartition('.')[2]}" for end in SHARDS}
    return list_folder(folder, image_suffixes() | {end.lower() for end in BESIDE} | shards)


def shards_in(listing: Listing) -> list[str]:
    """Return the shards of a listing."""
    return [file for file in listing.files if suffix(file) in SHARDS]


def images_table(files: Sequence[str], caption_field: str | None) -> SampleTable:
    """Return image files that were named, with the files of captions beside them."""
    beside: set[str] = set()
    for folder in {os.path.dirname(file) for file in files}:
        beside.update(os.path.join(folder, name) for name in os.listdir(folder or ".") if name.endswith(BESIDE))
    return _files_table(
        Container("", shard=False), files, files, {text for text in beside if os.path.isfile(text)}, caption_field
    )


def folder_stamp(folders: dict[str, int]) -> dict[str, int] | None:
    """Return the times by which a change is noticed; None while one could still happen within the clock's tick."""
    return folders if max(folders.values()) < time.time_ns() - SETTLED else None


def shard_table(location: str, properties: str, caption_field: str | None) -> SampleTable:
    """Return the images of a shard.

    Args:
        location: The shard.
        properties: Its stamp (`storage.properties`).
        caption_field: Field of `<key>.json`, or column of Parquet, with the captions; None for `<key>.txt` alone.

    Raises:
        ValueError: It is damaged, or holds no images.
        OSError: It cannot be read, after several attempts.
    """
    copied = needs_copy(location)
    container = Container(location, shard=True, copied=copied, stamp=properties)
    place = os.fspath(local_copy(location, properties, caption_field)) if copied else location
    shard = _members(place, location)
    images = {name: span for name, span in shard.members.items() if _is_image(name)}
    skipped = [(name, why) for name, why in shard.skipped.items() if _is_image(name) or name.suffix in TEXT_SUFFIXES]
    if not images:
        raise ValueError(f"{location}: no images in this shard; it needs members such as key.webp and key.txt")
    container.left_out = dict(+Counter({"members of shards": len(skipped)}))
    return SampleTable(
        container,
        *_shard_samples(images, shard, caption_field),
        skipped=[f"{f'{location}/{name}'!r} ({why})" for name, why in skipped],
        complaint=f"{location} {shard.complaint}" if shard.complaint else None,
    )


def _members(place: str, location: str) -> Shard:
    try:
        return patiently(lambda: read_shard(place), location, but=tarfile.TarError)
    except tarfile.TarError as error:
        raise ValueError(f"{location}: not a readable uncompressed tar file ({error}); write it again") from error


def _shard_samples(
    images: dict[PurePosixPath, Span], shard: Shard, caption_field: str | None
) -> tuple[np.ndarray, bytes]:
    samples = np.zeros(len(images), SAMPLE)
    samples["offset"] = [span.offset for span in images.values()]
    samples["size"] = [span.size for span in images.values()]
    texts = [_text_beside(name, shard, caption_field) for name in images]
    samples["caption"] = [kind for kind, _ in texts]
    samples["text"] = [span.offset for _, span in texts]
    samples["text_size"] = [span.size for _, span in texts]
    return samples, _named(samples, [str(name) for name in images])


_NOWHERE = Span("", 0, 0)


def _text_beside(name: PurePosixPath, shard: Shard, caption_field: str | None) -> tuple[CaptionKind, Span]:
    for end in TEXT_SUFFIXES:
        if text := shard.members.get(name.with_suffix(end)):
            return CaptionKind.LINES, text
    if caption_field and (text := shard.members.get(name.with_suffix(".json"))):
        return CaptionKind.FIELD, text
    return CaptionKind.NONE, _NOWHERE


def _files_table(
    container: Container, images: Sequence[str], names: Sequence[str], texts: Collection[str], caption_field: str | None
) -> SampleTable:
    samples = np.zeros(len(images), SAMPLE)
    beside = BESIDE if caption_field else TEXT_SUFFIXES
    stems = [os.path.splitext(image)[0] for image in images]
    found = [next((place for place, end in enumerate(beside) if stem + end in texts), -1) for stem in stems]
    samples["text"] = np.maximum(found, 0)
    kinds = [*[CaptionKind.LINES] * len(TEXT_SUFFIXES), CaptionKind.FIELD, CaptionKind.NONE]
    samples["caption"] = [kinds[place] for place in found]
    return SampleTable(container, samples, _named(samples, names))


def _named(samples: np.ndarray, names: Sequence[str]) -> bytes:
    """Set where each name begins, and return all of them."""
    encoded = [os.fsencode(name) + b"\0" for name in names]
    ends = np.cumsum([len(name) for name in encoded], dtype=np.uint64)
    samples["name"][1:] = ends[:-1]
    return b"".join(encoded)


def _images_and_texts(files: Sequence[str]) -> tuple[list[str], set[str]]:
    known = image_suffixes()
    images = [file for file in files if os.path.splitext(file)[1].lower() in known]
    return images, {file for file in files if file.endswith(BESIDE)}


def _is_image(name: PurePosixPath) -> bool:
    return name.suffix.lower() in image_suffixes() and not name.name.startswith(".")
