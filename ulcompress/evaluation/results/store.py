"""The records of an evaluation on the disk, by which it can be interrupted, and split over processes."""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ulcompress.coding.bitstream import MAX_SIDE
from ulcompress.evaluation.measuring.contestants import Coded, Contestant
from ulcompress.files import write_whole
from ulcompress.images import ImageError, image_bytes, read_image

LONGEST_SLUG = 200
"""Letters of a name that go into that of a file, which has a digest and a suffix too and at most 255 bytes."""
Points = Mapping[str, Mapping[str, np.ndarray]]
"""Points of one image: name of a metric of sets, then `restored` or `original`, to features (N, C)."""


@dataclass(frozen=True)
class Record:
    """One image through one contestant, measured."""

    identity: str
    """Digest of all that decided the coding."""
    width: int
    """Width of the image in pixels."""
    height: int
    bytes: int
    """Size of the compressed file."""
    encode_seconds: float
    decode_seconds: float
    working_memory: int | None
    """Peak memory of the coding in bytes."""
    quality: float | str | None
    factor: float
    fits: bool
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    """Numbers of the metrics of pairs by name; None where one is not defined for this image."""
    protocols: Mapping[str, str] = field(default_factory=dict)
    """Name of every metric that was applied, those of sets included, to the digest of its protocol."""

    @classmethod
    def of(cls, coded: Coded, identity: str) -> Record:
        """Keep the numbers of what was coded."""
        height, width = coded.restored.shape[1:]
        return cls(
            identity=identity,
            width=width,
            height=height,
            bytes=len(coded.data),
            encode_seconds=coded.encode_seconds,
            decode_seconds=coded.decode_seconds,
            working_memory=coded.working_memory,
            quality=coded.quality,
            factor=coded.factor,
            fits=coded.fits,
        )

    def __post_init__(self):
        """Raise ValueError for what cannot have been measured, as a damaged or changed file has it."""
        texts = [self.identity, *self.protocols, *self.protocols.values(), *self.metrics]
        counts = [self.width, self.height, self.bytes, *([] if self.working_memory is None else [self.working_memory])]
        numbers = [self.encode_seconds, self.decode_seconds, self.factor]
        numbers += [value for value in self.metrics.values() if value is not None]
        if not (
            all(isinstance(text, str) for text in texts)
            and all(type(count) is int and count >= 0 for count in counts)
            and all(type(number) in (int, float) and math.isfinite(number) for number in numbers)
            and self.width * self.height > 0
            and isinstance(self.quality, str | int | float | None)
            and isinstance(self.fits, bool)
        ):
            raise ValueError(f"got a record that no measurement gives: {self}")

    @property
    def bpp(self) -> float:
        """Bits a pixel."""
        return 8 * self.bytes / (self.width * self.height)

    def measured(self, metrics: Mapping[str, float], protocols: Mapping[str, str]) -> Record:
        """Return the record with more metrics; numbers that are not finite become None."""
        known = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        return replace(self, metrics={**self.metrics, **known}, protocols={**self.protocols, **protocols})


class Store:
    """A folder of results; each file in it is written whole or not at all.

    records/CONTESTANT/IMAGE.json   a `Record`
    points/CONTESTANT/IMAGE.npz     features for the metrics of sets
    files/CONTESTANT/IMAGE.ulc      if kept
    images/CONTESTANT/IMAGE.png     if kept
    originals/IMAGE.png             if kept
    """

    def __init__(self, folder: Path):
        """Take a folder, which need not exist yet."""
        self.folder = folder

    def record(self, contestant: str, image: str) -> Record | None:
        """Return the record of an image through a contestant; None where it is missing or damaged."""
        try:
            return Record(**json.loads(self._path("records", contestant, image, ".json").read_bytes()))
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return None

    def save(self, contestant: str, image: str, record: Record, points: Points) -> None:
        """Keep a record and its points; points of other metrics stay."""
        if points:
            arrays = {f"{name}/{kind}": array for name, pair in points.items() for kind, array in pair.items()}
            buffer = io.BytesIO()
            np.savez(buffer, **(self._arrays(contestant, image) | arrays))  # pyright: ignore[reportArgumentType]
            self._write(self._path("points", contestant, image, ".npz"), buffer.getvalue())
        text = json.dumps(vars(record), allow_nan=False)  # last: a record promises that its points are there
        self._write(self._path("records", contestant, image, ".json"), text.encode())

    def points(self, contestant: str, image: str, metric: str) -> dict[str, np.ndarray]:
        """Return the points of an image for a metric of sets, arrays by name; none where any is damaged."""
        prefix = f"{metric}/"
        arrays = self._arrays(contestant, image).items()
        found = {name.removeprefix(prefix): array for name, array in arrays if name.startswith(prefix)}
        return found if all(map(_are_points, found.values())) else {}

    def forget(self, contestant: Contestant, image: str) -> None:
        """Remove record, points and files of an image through a contestant."""
        name = contestant.name
        self._path("records", name, image, ".json").unlink(missing_ok=True)  # first: the rest is read only with it
        self._path("points", name, image, ".npz").unlink(missing_ok=True)
        self._file(contestant, image).unlink(missing_ok=True)
        self._image(name, image).unlink(missing_ok=True)

    def keep_file(self, contestant: Contestant, image: str, data: bytes) -> None:
        """Keep a compressed file."""
        self._write(self._file(contestant, image), data)

    def keep_image(self, contestant: str, image: str, pixels: Tensor) -> None:
        """Keep a restored image, RGB (3, H, W) in [0, 1]."""
        self._write(self._image(contestant, image), image_bytes(pixels, ".png"))

    def keep_original(self, image: str, pixels: Tensor) -> None:
        """Keep an original, RGB (3, H, W) in [0, 1]."""
        self._write(self._original(image), image_bytes(pixels, ".png"))

    def forget_other_original(self, image: str, pixels: Tensor) -> None:
        """Remove the kept original of an image where its pixels, RGB (3, H, W) in [0, 1], are other ones."""
        path = self._original(image)
        if (kept := _kept(path)) is None or not torch.equal(kept, pixels):
            path.unlink(missing_ok=True)

    def image(self, contestant: str, image: str) -> Tensor | None:
        """Return a kept restored image, RGB (3, H, W) in [0, 1]; None where it is missing or damaged."""
        return _kept(self._image(contestant, image))

    def image_path(self, contestant: str, image: str) -> str | None:
        """Return where a restored image is kept, relative to the folder, with `/`; None where it is not."""
        return self._relative(self._image(contestant, image))

    def original_path(self, image: str) -> str | None:
        """Return where an original is kept, relative to the folder, with `/`; None where it is not."""
        return self._relative(self._original(image))

    def file_path(self, contestant: Contestant, image: str) -> str | None:
        """Return where a compressed file is kept, relative to the folder, with `/`; None where it is not."""
        return self._relative(self._file(contestant, image))

    def _relative(self, path: Path) -> str | None:
        return path.relative_to(self.folder).as_posix() if path.is_file() else None

    def _arrays(self, contestant: str, image: str) -> dict[str, np.ndarray]:
        path = self._path("points", contestant, image, ".npz")
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                return dict(arrays)
        except Exception:  # missing or damaged, for which zip, zlib and numpy raise many types
            return {}

    def _file(self, contestant: Contestant, image: str) -> Path:
        return self._path("files", contestant.name, image, contestant.suffix)

    def _image(self, contestant: str, image: str) -> Path:
        return self._path("images", contestant, image, ".png")

    def _original(self, image: str) -> Path:
        return self.folder / "originals" / f"{slug(image)}.png"

    def _path(self, kind: str, contestant: str, image: str, suffix: str) -> Path:
        return self.folder / kind / slug(contestant) / f"{slug(image)}{suffix}"

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)


def _kept(path: Path) -> Tensor | None:
    """Return an image, RGB (3, H, W) in [0, 1]; None where it is missing or damaged."""
    try:
        return read_image(path, max_pixels=MAX_SIDE**2)
    except ImageError:
        return None


def _are_points(array: np.ndarray) -> bool:
    return array.ndim == 2 and array.dtype.kind in "fiu" and bool(np.isfinite(array).all())


def slug(name: str) -> str:
    """Turn a name into one that every file system and URL takes; different names stay different."""
    plain = re.sub(r"[^A-Za-z0-9._=+-]+", "-", name.replace(" ", "+")).strip("-.")[:LONGEST_SLUG]
    return plain if plain == name.replace(" ", "+") and "+" not in name else f"{plain}-{digest(name)[:6]}"


def digest(content: Any) -> str:
    """Return SHA-256 of plain data, in hexadecimal."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
