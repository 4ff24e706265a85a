"""How far a set of restored images is from the set of originals."""

import torch
from einops import rearrange
from torch import Tensor


def cut(images: Tensor, side: int) -> Tensor:
    """Cut images, (B, C, H, W), into squares that do not overlap, (N, C, side, side), left and upper edge first.

    Raises ValueError where not one square fits.
    """
    height, width = images.shape[2:]
    if min(height, width) < side:
        raise ValueError(f"got an image of {width} x {height} pixels, patches have {side}; take smaller patches")
    squares = images.unfold(2, side, side).unfold(3, side, side)
    return rearrange(squares, "b c rows columns h w -> (b rows columns) c h w")


def frechet_of_points(points: Tensor, others: Tensor) -> float:
    """Return the squared Fréchet distance of the Gaussians of two sets of points, (N, C) and (M, C), at least 0.

    The distance of Dowson and Landau, 1982, as Heusel et al., NeurIPS 2017, equation 6, apply it to the features of
    Inception; on other features it is not FID. It falls as the number of points grows.

    The product of the two roots has the singular values of the product of the two sets of centred points, and so of
    that of their triangular factors: no matrix larger than C by C, or N by M, is taken apart, and no root is needed.
    """
    mean, other_mean = points.mean(0), others.mean(0)
    centred = (points - mean) / (len(points) - 1) ** 0.5
    other_centred = (others - other_mean) / (len(others) - 1) ** 0.5
    factor, other_factor = (torch.linalg.qr(part, mode="r").R for part in (centred, other_centred))
    cross = torch.linalg.svdvals(factor @ other_factor.T).sum()
    spread = centred.square().sum() + other_centred.square().sum() - 2 * cross
    return max(0.0, float((mean - other_mean).square().sum() + spread))
