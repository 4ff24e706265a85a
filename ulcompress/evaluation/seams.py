"""How visible the borders of overlapped patches are in a restored image."""

import torch
from torch import Tensor

from ulcompress.diffusion.boundary import starts

NEIGHBOURS = 4
"""Lines on each side of a border with which it is compared."""


def seam_ratio(image: Tensor, *, patch: int, overlap: int, spacing: int = 1) -> float:
    """Return the mean absolute gradient across the borders of patches, divided by that across neighbouring lines.

    About 1 where no seam is visible, more with seams; a mean over images is more reliable than one image. What
    the images themselves have at those lines moves it by several percent: compare with the ratio of the same images
    restored in one patch.

    Args:
        image: RGB in [0, 1], (3, H, W).
        patch: Side of the patches in pixels; for patches of a latent, times its stride.
        overlap: Of the patches in pixels.
        spacing: Pixels from one neighbouring line to the next; the stride of a latent or of a stem, so that the grid
            which such a network leaves everywhere is in border and neighbours alike.

    Returns:
        The ratio; NaN where the image has no borders because it fits into one patch.

    Raises:
        ValueError: The image is of another shape, or the patches cannot be.
    """
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"got an image of shape {tuple(image.shape)}; give RGB, (3, H, W)")
    if not 0 <= overlap < patch or spacing < 1:
        raise ValueError(f"got patch {patch}, overlap {overlap}, spacing {spacing}; overlap < patch and spacing >= 1")
    pairs = [
        pair
        for picture in (image, image.transpose(1, 2))
        for pair in _gradients(picture.double(), borders(picture.shape[-1], patch, overlap), spacing)
    ]
    across, beside = torch.tensor(pairs, dtype=torch.float64).reshape(-1, 2).sum(0)
    return float(across / beside)


def borders(length: int, patch: int, overlap: int) -> list[int]:
    """Return the positions along one side before which a patch begins or ends, those at the image's edge left out."""
    begin = starts(length, patch, overlap)
    return sorted({position for start in begin for position in (start, start + patch)} & set(range(1, length)))


def _gradients(image: Tensor, edges: list[int], spacing: int) -> list[tuple[Tensor, Tensor]]:
    """Return for each border the mean absolute gradient between columns across it, and across its neighbours."""
    profile = image.diff(dim=2).abs().mean((0, 1))  # at index j - 1 what lies between the columns j - 1 and j
    pairs = []
    for edge in edges:
        near = (edge + sign * step * spacing for step in range(1, NEIGHBOURS + 1) for sign in (-1, 1))
        beside = [position - 1 for position in near if 0 < position <= len(profile) and position not in edges]
        if beside:
            pairs.append((profile[edge - 1], profile[beside].mean()))
    return pairs
