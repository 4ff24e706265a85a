"""The common part of projected features, which would decide every cosine if it stayed."""

import torch
from torch import Tensor

from ulcompress import ranks


def centre(projected: Tensor, mean: Tensor, *, training: bool, first: bool) -> Tensor:
    """Return what to subtract from projected features, (..., D): a running mean, (D,), which training moves in place.

    In training it has the gradient of the batch's own mean. Without that gradient nothing would hold the features'
    mean, since a shift changes no loss: it would drift faster than an average of the weights can follow. `first` takes
    the mean of this batch as it is.
    """
    if not training:
        return mean
    own = projected.flatten(0, -2).mean(0)
    with torch.no_grad():
        common = ranks.summed(own.clone()) / ranks.world_size()
        mean.copy_(common if first else torch.lerp(mean, common, 0.1))
    return mean + (own - own.detach())
