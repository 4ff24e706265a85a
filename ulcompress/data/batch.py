"""The input of a training step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Crops of B images with their captions."""

    images: Tensor
    """RGB in [0, 1], float32, (B, 3, crop, crop)."""
    captions: list[str | None]
    """One caption per image; None for an image without one."""


def collate(items: Sequence[tuple[Tensor, str | None]]) -> Batch:
    """Stack 8-bit crops (3, crop, crop) and their captions to a batch."""
    images, captions = zip(*items, strict=True)
    return Batch(torch.stack(images).float().div_(255), list(captions))
