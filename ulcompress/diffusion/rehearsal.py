"""Training on what the decoder itself will show in sampling."""

from collections.abc import Callable

import torch
from torch import Tensor

from ulcompress.diffusion.schedule import NoiseSchedule


def rehearsed(
    schedule: NoiseSchedule,
    clean: Tensor,
    noise: Tensor,
    times: Tensor,
    *,
    first: int,
    share: float,
    estimate: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return noise, (B, C, h, w), under which some targets look as in sampling: like the decoder's estimate of them.

        x_t = alpha * estimate + sigma * noise = alpha * clean + sigma * (noise + alpha / sigma * (estimate - clean))

    In training x_t shows the true target, in sampling from the second step on what the first one made of it; a network
    that never saw its own estimates takes their faults for the target's. All that follows, the target included, is as
    with any other noise. The idea is scheduled sampling: Bengio et al., NeurIPS 2015.

    Args:
        schedule: The diffusion process.
        clean: The targets, (B, C, h, w).
        noise: As drawn, (B, C, h, w).
        times: Of each target, (B,).
        first: The time at which sampling starts, and where there is no earlier estimate.
        share: Of the targets at later steps of the sampling for which this is done.
        estimate: Maps indices of targets, (n,), to what one step from `first` makes of them, (n, C, h, w).
    """
    chosen = (torch.rand(len(clean), device=clean.device) < share) & (times < first)
    rows = chosen.nonzero()[:, 0]
    if len(rows) == 0:
        return noise
    with torch.no_grad():
        error = estimate(rows) - clean[rows]
    alpha, sigma = schedule.coefficients(times[rows])
    return noise.index_copy(0, rows, noise[rows] + alpha / sigma * error)
