"""Running mean and running scale of projected features, reduced over ranks.

A mean that all features share would decide every cosine with a codebook entry, so it is subtracted first.
"""

import torch
from torch import Tensor

from ulcompress.functional import distributed

MOMENTUM = 0.1
"""Weight of a batch in a running statistic."""


def running_mean(features: Tensor, mean: Tensor, *, training: bool, first: bool) -> Tensor:
    """Return the running mean, (D,), of features, (..., D); in training `mean` is updated in place.

    In training the result has the gradient of the batch mean. A shift of all features changes no loss, so without this
    gradient the mean would drift, faster than an average of the weights can follow. With `first` the mean of this batch
    replaces the running one.
    """
    return _updated(mean, features.flatten(0, -2).mean(0), first) if training else mean


def running_mean_square(features: Tensor, mean_square: Tensor, *, training: bool, first: bool) -> Tensor:
    """Return the running mean, a scalar, of the squared lengths of features, (..., D), as `running_mean` does.

    Its gradient keeps the scale of the features from drifting.
    """
    return _updated(mean_square, features.square().sum(-1).mean(), first) if training else mean_square


def _updated(running: Tensor, batch: Tensor, first: bool) -> Tensor:
    """Move a running statistic, in place, towards that of a batch of all ranks; the result has the batch's gradient."""
    with torch.no_grad():
        common = distributed.summed(batch.clone()) / distributed.world_size()
        running.copy_(common if first else torch.lerp(running, common, MOMENTUM))
    return running + (batch - batch.detach())
