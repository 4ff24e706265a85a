"""Padding of images whose sides a codec's strides do not divide."""

from torch import Tensor
from torch.nn import functional as F


def pad_to_multiple(image: Tensor, multiple: int, *, minimum: int = 1) -> Tensor:
    """Pad (B, C, H, W) at the right and the bottom to multiples that are at least `minimum`.

    By reflection where the image is large enough, else by repetition of its border.
    """
    height, width = image.shape[-2:]
    bottom, right = (-(-max(side, minimum) // multiple) * multiple - side for side in (height, width))
    reflect = bottom < height and right < width
    return F.pad(image, (0, right, 0, bottom), mode="reflect" if reflect else "replicate")
