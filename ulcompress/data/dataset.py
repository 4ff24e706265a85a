"""Crops of images, which depend on the seed, the epoch and the index alone, in every process."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ulcompress.data.sampler import Draw
from ulcompress.data.sources import ImageSource, Sample
from ulcompress.images import ImageError, open_image

MAX_TRAINING_PIXELS = 1 << 25
"""The most pixels that an image to train on may have unless the caller allows more."""


class _Decoded(NamedTuple):
    pixels: np.ndarray
    """8-bit RGB, (H, W, 3)."""
    captions: list[str]


class ImageDataset(Dataset):
    """Square crops of images with one caption each, as pairs of 8-bit RGB (3, crop, crop) and str or None.

    `dataset[index]` is the central crop and the first caption. `dataset[Draw(epoch, index)]` is a random crop, flipped
    half of the time, and a random caption, which depend on the seed and the draw only. Images smaller than the crop are
    padded by reflection. An image that cannot be read is reported once, by a warning, and replaced by the next one that
    can (`ImageSource.after`); ImageError is raised when there is none. `left_out` counts them, those of workers too.

    With `zoom` above 1 random crops are enlarged by factors between 1 and `zoom`, and show that much less of the image:
    small images then look like parts of large ones, in which things are larger and smoother. An image smaller than the
    crop is enlarged, by at most `zoom`, before it is padded.

    With `crops_per_image` the random crop, flip and caption of an image recur after that many epochs, so that
    what is computed from a crop can be kept; exactly where all crops have one side.

    With `cache` decoded images stay in memory, 3 bytes a pixel; every worker process keeps its own.

    An image of more than `max_pixels` counts as one that cannot be read: it would keep its loader busy for seconds,
    each time that a crop is drawn from it. The default admits the photographs of most cameras.
    """

    def __init__(
        self,
        *,
        source: ImageSource,
        crop: int,
        seed: int = 0,
        cache: bool = False,
        zoom: float = 1.0,
        max_pixels: int = MAX_TRAINING_PIXELS,
        crops_per_image: int | None = None,
    ):
        if crop < 1:
            raise ValueError(f"got crop {crop}; give the side of the crops in pixels, at least 1")
        if zoom < 1:
            raise ValueError(f"got zoom {zoom}; give the largest factor by which crops are enlarged, at least 1")
        self.source = source
        self.crop = crop
        self.zoom = zoom
        self.seed = seed
        self.cache = cache
        self.max_pixels = max_pixels
        self.crops_per_image = crops_per_image
        self._cached: dict[int, _Decoded] = {}
        # Shared with the workers, so that the process that ends the training can count.
        self._unreadable = torch.zeros(len(source), dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return len(self.source)

    @property
    def left_out(self) -> int:
        """Number of images that could not be read so far, in this process and its workers."""
        return int(self._unreadable.sum())

    def __getitem__(self, item: int | Draw) -> tuple[Tensor, str | None]:
        """Return one crop and its caption; raises ImageError if no image at all can be read."""
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[int | Draw]) -> list[tuple[Tensor, str | None]]:
        """Return the crops and captions of a batch, which is read at once; raises ImageError as for one."""
        indices = dict.fromkeys(item.index if isinstance(item, Draw) else item for item in items)
        wanted = [index for index in indices if index not in self._cached and not self._unreadable[index]]
        stored = dict(zip(wanted, self.source.read(wanted), strict=True))
        return [self._view(item, stored) for item in items]

    def _view(self, item: int | Draw, stored: dict[int, Sample | OSError]) -> tuple[Tensor, str | None]:
        if isinstance(item, Draw):
            epoch = item.epoch % self.crops_per_image if self.crops_per_image else item.epoch
            rng = np.random.default_rng((self.seed, epoch, item.index))
            pixels, caption = _random_view(self._readable(item.index, stored), item.crop or self.crop, self.zoom, rng)
        else:
            pixels, caption = _central_view(self._readable(item, stored), self.crop)
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy()), caption

    def _readable(self, index: int, stored: dict[int, Sample | OSError]) -> _Decoded:
        """Return the image of an index, or the one that takes its place."""
        for _ in range(len(self)):
            decoded = self._load(index, stored)
            if decoded is not None:
                return decoded
            index = self.source.after(index)
        raise ImageError(f"none of the {len(self)} images can be read; {self.source.name(0)} is the first of them")

    def _load(self, index: int, stored: dict[int, Sample | OSError]) -> _Decoded | None:
        if index in self._cached or self._unreadable[index]:
            return self._cached.get(index)
        try:
            name, data, captions = self._stored(index, stored)
            image = open_image(io.BytesIO(data), name=name, max_pixels=self.max_pixels)
        except (ImageError, OSError) as error:
            self._unreadable[index] = True
            warnings.warn(f"image left out, the next one takes its place: {error}", stacklevel=2)
            return None
        decoded = _Decoded(np.asarray(image), captions)
        if self.cache:
            self._cached[index] = decoded
        return decoded

    def _stored(self, index: int, stored: dict[int, Sample | OSError]) -> Sample:
        sample = stored[index] if index in stored else self.source[index]
        if isinstance(sample, OSError):
            raise sample
        return sample


def _padded(pixels: np.ndarray, side: int) -> np.ndarray:
    missing = [max(side - length, 0) for length in pixels.shape[:2]]
    if not any(missing):
        return pixels
    return np.pad(pixels, [*((m // 2, m - m // 2) for m in missing), (0, 0)], mode="reflect")


def _random_view(image: _Decoded, crop: int, zoom: float, rng: np.random.Generator) -> tuple[np.ndarray, str | None]:
    pixels = _padded(image.pixels, ceil(crop / zoom))
    smaller = min(pixels.shape[:2])
    side = crop if zoom == 1 else min(max(1, round(crop / rng.uniform(max(1, crop / smaller), zoom))), smaller)
    top, left = (int(rng.integers(length - side + 1)) for length in pixels.shape[:2])
    pixels = pixels[top : top + side, left : left + side]
    if side < crop:
        pixels = np.asarray(Image.fromarray(pixels).resize((crop, crop), Image.Resampling.BICUBIC))
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    caption = image.captions[int(rng.integers(len(image.captions)))] if image.captions else None
    return pixels, caption


def _central_view(image: _Decoded, crop: int) -> tuple[np.ndarray, str | None]:
    pixels = _padded(image.pixels, crop)
    top, left = ((length - crop) // 2 for length in pixels.shape[:2])
    return pixels[top : top + crop, left : left + crop], image.captions[0] if image.captions else None
