"""Crops of images, which depend on the seed, the epoch and the index alone, in every process."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ulcompress.data.sampler import Draw
from ulcompress.data.sources import ImageSource, Sample
from ulcompress.data.views import View, central_view, least_side, random_view
from ulcompress.images import ImageError, open_image

MAX_TRAINING_PIXELS = 1 << 25
"""The most pixels that an image to train on may have unless the caller allows more."""


class _Decoded(NamedTuple):
    pixels: Image.Image | np.ndarray
    """8-bit RGB; (H, W, 3) of an image that is cached, which takes less memory."""
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

    With `shorter_side` images whose shorter side is longer are first reduced to it, their aspect ratio kept. Then a
    JPEG is decoded at a half, a quarter or an eighth of its size where that is still large enough, and resized from
    there. All else is decoded whole before it is cropped, as no decoder of Pillow's decodes a part of an image.

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
        shorter_side: int | None = None,
        crops_per_image: int | None = None,
    ):
        if crop < 1:
            raise ValueError(f"got crop {crop}; give the side of the crops in pixels, at least 1")
        if zoom < 1:
            raise ValueError(f"got zoom {zoom}; give the largest factor by which crops are enlarged, at least 1")
        if shorter_side is not None and shorter_side < crop:
            raise ValueError(f"got shorter_side {shorter_side}, less than the crop of {crop}; give at least as much")
        self.source = source
        self.crop = crop
        self.shorter_side = shorter_side
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
            crop, image = item.crop or self.crop, self._readable(item.index, stored)
            whole = padded(image.pixels, least_side(crop, self.zoom))
            view = random_view(_size(whole), image.captions, crop, zoom=self.zoom, rng=self.generator(item))
        else:
            crop, image = self.crop, self._readable(item, stored)
            whole = padded(image.pixels, crop)
            view = central_view(_size(whole), image.captions, crop)
        return torch.from_numpy(_crop(whole, view, crop).transpose(2, 0, 1).copy()), view.caption

    def generator(self, draw: Draw) -> np.random.Generator:
        """Return the random numbers of a draw."""
        epoch = draw.epoch % self.crops_per_image if self.crops_per_image else draw.epoch
        return np.random.default_rng((self.seed, epoch, draw.index))

    def decoded(self, index: int) -> tuple[np.ndarray, list[str]]:
        """Return an image whole, 8-bit RGB (H, W, 3), with its captions, or the one that takes its place."""
        pixels, captions = self._readable(index, {})
        return np.asarray(pixels), captions

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
            image = open_image(io.BytesIO(data), name=name, max_pixels=self.max_pixels, least_side=self.shorter_side)
        except (ImageError, OSError) as error:
            self._unreadable[index] = True
            warnings.warn(f"image left out, the next one takes its place: {error}", stacklevel=2)
            return None
        if self.shorter_side is not None:
            image = _reduced(image, self.shorter_side)
        if not self.cache:
            return _Decoded(image, captions)
        return self._cached.setdefault(index, _Decoded(np.asarray(image), captions))

    def _stored(self, index: int, stored: dict[int, Sample | OSError]) -> Sample:
        sample = stored[index] if index in stored else self.source[index]
        if isinstance(sample, OSError):
            raise sample
        return sample


def _reduced(image: Image.Image, shorter_side: int) -> Image.Image:
    """Return an image whose shorter side is at most that."""
    shorter = min(image.size)
    if shorter <= shorter_side:
        return image
    width, height = (round(side * shorter_side / shorter) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _size(pixels: Image.Image | np.ndarray) -> tuple[int, int]:
    """Return height and width."""
    height, width = pixels.shape[:2] if isinstance(pixels, np.ndarray) else (pixels.height, pixels.width)
    return height, width


def _square(pixels: Image.Image | np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    """Return a part of an image, (side, side, 3); of a Pillow image only that is copied."""
    if isinstance(pixels, np.ndarray):
        return pixels[top : top + side, left : left + side]
    return np.asarray(pixels.crop((left, top, left + side, top + side)))


def padded(pixels: Image.Image | np.ndarray, side: int) -> Image.Image | np.ndarray:
    """Return an image with at least that many rows and columns, continued by reflection."""
    missing = [max(side - length, 0) for length in _size(pixels)]
    if not any(missing):
        return pixels
    return np.pad(np.asarray(pixels), [*((m // 2, m - m // 2) for m in missing), (0, 0)], mode="reflect")


def _crop(image: Image.Image | np.ndarray, view: View, crop: int) -> np.ndarray:
    """Return what a view shows of a padded image, enlarged to the crop, (crop, crop, 3)."""
    pixels = _square(image, view.top, view.left, view.side)
    if view.side < crop:
        pixels = np.asarray(Image.fromarray(pixels).resize((crop, crop), Image.Resampling.BICUBIC))
    return pixels[:, ::-1] if view.mirrored else pixels
