"""Symbols that a message which was cut does not hold."""

import numpy as np
import torch
from torch import Tensor


def nearest_known(symbols: Tensor, known: Tensor) -> Tensor:
    """Let each position of a map, (h, w), that is not known take the symbol of the nearest one that is, if any."""
    if known.all() or not known.any():
        return symbols
    from scipy.ndimage import distance_transform_edt  # takes a while, and whole files do not need it

    nearest = distance_transform_edt(~known.numpy(), return_distances=False, return_indices=True)
    rows, columns = torch.from_numpy(np.asarray(nearest)).long()
    return symbols[rows, columns]
