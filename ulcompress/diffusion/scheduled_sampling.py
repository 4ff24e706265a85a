"""Scheduled sampling: training on what the decoder itself will show in sampling."""

from collections.abc import Callable

import torch
from torch import Tensor

from ulcompress.diffusion.schedule import Schedule


def scheduled_noise(
    schedule: Schedule,
    clean: Tensor,
    noise: Tensor,
    levels: Tensor,
    *,
    begin: Tensor,
    first: float,
    share: float,
    estimate: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return noise, (B, C, h, w), under which some targets look as in sampling: like the decoder's estimate of them.

        x_first = a_f * begin + s_f * noise ─► estimate ─► x_t = a * estimate + s * (x_first - a_f * estimate) / s_f

    What is returned is the noise for which that x_t is a * clean + s * noise.

    In training x_t shows the true target, in sampling from the second step on what the first one made of it; a network
    that never saw its own estimates takes their faults for the target's. All that follows, the target included, is as
    with any other noise. Source of the idea: Bengio et al., Scheduled Sampling for Sequence Prediction with Recurrent
    Neural Networks, NeurIPS 2015.

    Args:
        schedule: The diffusion process.
        clean: The targets, (B, C, h, w).
        noise: As drawn, (B, C, h, w).
        levels: Noise level of each target, (B,), at most `first`.
        begin: What sampling starts from beneath the noise, (B, C, h, w); of no effect where it starts at pure noise.
        first: The noise level at which sampling starts.
        share: Of the targets for which this is done.
        estimate: Maps indices of targets, (n,), to what one step from `first` makes of them, (n, C, h, w).
    """
    chosen = torch.rand(len(clean), device=clean.device) < share
    shown = begin.clone()  # at the first level there is no estimate yet
    later = (chosen & (levels < first)).nonzero()[:, 0]
    if len(later) > 0:
        with torch.no_grad():
            shown[later] = estimate(later)
    alpha, sigma = schedule.coefficients(levels)
    first_alpha, first_sigma = schedule.coefficients(torch.full_like(levels, first))
    moved = noise + first_alpha / first_sigma * (begin - shown) + alpha / sigma * (shown - clean)
    return torch.where(chosen[:, None, None, None], moved, noise)
