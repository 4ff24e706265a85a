"""Padding of images that are too small, or whose sides a codec's strides do not divide."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ulcompress.functional.division import ceil_div


def pad_to_multiple(image: Tensor, multiple: int, *, minimum: int = 1) -> Tensor:
    """Pad (B, C, H, W) at the right and the bottom to sides that are multiples and at least `minimum`.

    By reflection where the image is large enough, else by repetition of its border.
    """
    return _padded(image, [ceil_div(max(side, minimum), multiple) * multiple for side in image.shape[-2:]])


def pad_to_minimum(image: Tensor, minimum: int) -> Tensor:
    """Pad (B, C, H, W) like `pad_to_multiple`, but only sides below `minimum`, up to it."""
    return _padded(image, [max(side, minimum) for side in image.shape[-2:]])


def _padded(image: Tensor, size: Sequence[int]) -> Tensor:
    height, width = image.shape[-2:]
    bottom, right = size[0] - height, size[1] - width
    reflect = bottom < height and right < width
    return F.pad(image, (0, right, 0, bottom), mode="reflect" if reflect else "replicate")


def replicated(x: Tensor, rows: int, columns: int) -> Tensor:
    """Continue a map, (B, C, H, W), by its nearest values: by `rows` above and below, by `columns` on both sides."""
    if not torch.compiler.is_compiling():
        return F.pad(x, (columns, columns, rows, rows), mode="replicate")
    # The gradient of `pad` does not compile in every memory format.
    x = torch.cat([x[..., :1].expand(*x.shape[:-1], columns), x, x[..., -1:].expand(*x.shape[:-1], columns)], -1)
    top, bottom = (row.expand(*x.shape[:-2], rows, x.shape[-1]) for row in (x[..., :1, :], x[..., -1:, :]))
    return torch.cat([top, x, bottom], -2)
