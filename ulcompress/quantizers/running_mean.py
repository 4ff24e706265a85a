"""What projected features have in common: their mean, which would decide every cosine if it stayed, and their scale."""

import torch
from torch import Tensor

from ulcompress.functional import distributed as ranks


def mean_square(centred: Tensor, square: Tensor, *, training: bool, first: bool) -> Tensor:
    """Return the mean squared length of centred features, (..., D): a running scalar, which training moves in place.

    Its gradient holds the scale as that of `centre` holds the mean.
    """
    if not training:
        return square
    own = centred.square().sum(-1).mean()
    with torch.no_grad():
        common = ranks.summed(own.clone()) / ranks.world_size()
        square.copy_(common if first else torch.lerp(square, common, 0.1))
    return square + (own - own.detach())


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
