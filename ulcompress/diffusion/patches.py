"""Overlapped patches: a function that works at one size, applied to a map of any size."""

from collections.abc import Callable

import torch
from torch import Tensor


def starts(length: int, patch: int, overlap: int) -> list[int]:
    """Where patches begin along one side; the last one is moved inside. A short side has one patch."""
    if length <= patch:
        return [0]
    regular = list(range(0, length - patch, patch - overlap))
    return [*regular, length - patch]


def in_patches(
    function: Callable[[slice, slice], Tensor], height: int, width: int, *, patch: int, overlap: int
) -> Tensor:
    """Evaluate a function of row and column ranges patch by patch and blend the overlaps.

    Args:
        function: Returns the result for the given ranges, (B, C, rows, columns).
        height: Of the whole map.
        width: Of the whole map.
        patch: Side of a patch.
        overlap: Of neighbouring patches, less than `patch`.

    Returns:
        The whole map, (B, C, height, width): a weighted mean in which a patch's weight falls linearly towards its
        border. Merged at every step of a sampler, this is the fusion of MultiDiffusion (Bar-Tal et al., ICML 2023,
        equation 5).
    """
    if not 0 <= overlap < patch:
        raise ValueError(f"the overlap must be at least 0 and less than the patch of {patch}, got {overlap}")
    tops, lefts = starts(height, patch, overlap), starts(width, patch, overlap)
    if len(tops) == len(lefts) == 1:
        return function(slice(0, height), slice(0, width))
    merged = weights = None
    for top in tops:
        for left in lefts:
            rows, columns = slice(top, min(top + patch, height)), slice(left, min(left + patch, width))
            part = function(rows, columns)
            if merged is None or weights is None:
                merged = part.new_zeros(*part.shape[:2], height, width)
                weights = part.new_zeros(height, width)
            window = _ramp(part.shape[-2], overlap, part)[:, None] * _ramp(part.shape[-1], overlap, part)
            merged[..., rows, columns] += window * part
            weights[rows, columns] += window
    assert merged is not None and weights is not None
    return merged / weights


def _ramp(length: int, overlap: int, like: Tensor) -> Tensor:
    distance = torch.arange(1, length + 1, dtype=like.dtype, device=like.device)
    return torch.minimum(distance, distance.flip(0)).clamp(max=overlap + 1)
