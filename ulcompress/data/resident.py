"""Training images that stay decoded on the device that trains."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import Dataset

from ulcompress.data.batch import Batch
from ulcompress.data.dataset import ImageDataset, padded
from ulcompress.data.sampler import Draw
from ulcompress.data.views import View, random_view


class ResidentImages(Dataset):
    """The crops of an `ImageDataset`, cut on a device out of decoded images that stay there, 3 bytes a pixel.

    No process decodes while training runs, so that a GPU that takes thousands of small crops a second does not wait.
    Until all are on the device, main memory holds them too. The crops and captions are those of the dataset for the
    same draws, but for images smaller than `crop`, which are padded to it once.
    """

    def __init__(self, *, dataset: ImageDataset, crop: int, device: torch.device | str):
        """Decode all images, in as many threads as there are processors.

        Args:
            dataset: Where images, captions and random numbers are from.
            crop: The largest side of a crop that will be drawn, in pixels.
            device: Where they stay.

        Raises:
            ValueError: The dataset enlarges its crops.
            ImageError: No image can be read.
        """
        if dataset.zoom != 1:
            raise ValueError(
                f"got data.zoom {dataset.zoom} for data.resident images, whose crops are cut; set zoom to 1"
            )
        self.dataset = dataset
        self.crop = crop
        self.device = torch.device(device)
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            images = list(threads.map(self._decoded, range(len(dataset))))
        self.captions = [captions for _, captions in images]
        self.sizes = [(len(pixels), len(pixels[0])) for pixels, _ in images]
        areas = [height * width for height, width in self.sizes]
        self._starts = np.concatenate([[0], np.cumsum(areas)[:-1]]).astype(np.int64)
        self.pixels = torch.empty(sum(areas), 3, dtype=torch.uint8, device=self.device)
        for start, area in zip(self._starts, areas, strict=True):
            pixels, _ = images.pop(0)  # main memory holds each until it is on the device
            self.pixels[start : start + area] = torch.from_numpy(pixels.reshape(-1, 3)).to(self.device)
        rank_zero_info(f"{len(areas)} training images, {self.pixels.numel() / 1e9:.2f} GB, stay on {self.device}")

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitems__(self, draws: Sequence[Draw]) -> Batch:
        """Return the crops of a batch, all of one side."""
        views = [self._view(draw) for draw in draws]
        return Batch(self._cut(draws, views), [view.caption for view in views])

    def _decoded(self, index: int) -> tuple[np.ndarray, list[str]]:
        pixels, captions = self.dataset.decoded(index)
        return np.array(padded(pixels, self.crop)), captions

    def _view(self, draw: Draw) -> View:
        crop = draw.crop or self.crop
        return random_view(
            self.sizes[draw.index], self.captions[draw.index], crop, zoom=1, rng=self.dataset.generator(draw)
        )

    def _cut(self, draws: Sequence[Draw], views: Sequence[View]) -> Tensor:
        """Return float RGB in [0, 1], (B, 3, side, side), by one gathering of pixels."""
        side = views[0].side
        widths = np.array([self.sizes[draw.index][1] for draw in draws])
        corners = np.array([(view.top, view.left) for view in views])
        first = self._starts[[draw.index for draw in draws]] + corners[:, 0] * widths + corners[:, 1]
        mirrored = torch.tensor([view.mirrored for view in views], device=self.device)[:, None]
        steps = torch.arange(side, device=self.device)
        columns = torch.where(mirrored, side - 1 - steps, steps)
        rows = torch.from_numpy(widths).to(self.device)[:, None] * steps
        places = torch.from_numpy(first).to(self.device)[:, None, None] + rows[:, :, None] + columns[:, None, :]
        return self.pixels[places].permute(0, 3, 1, 2).float().div_(255)
