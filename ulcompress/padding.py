"""Padding of images whose sides a codec's strides do not divide."""

from torch import Tensor
from torch.nn import functional as F


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pad (B, C, H, W) at the right and the bottom to multiples, by reflection where the image is large enough."""
    bottom, right = -image.shape[-2] % multiple, -image.shape[-1] % multiple
    reflect = bottom < image.shape[-2] and right < image.shape[-1]
    return F.pad(image, (0, right, 0, bottom), mode="reflect" if reflect else "replicate")
