"""Padding of images that are too small, or whose sides a codec's strides do not divide."""

from collections.abc import Sequence

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
