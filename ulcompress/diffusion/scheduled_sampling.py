"""Scheduled sampling: training on the decoder's estimates, as they occur in sampling."""

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
    """Return noise, (B, C, h, w), by which x_t of some targets contains the decoder's estimate in place of the target.

        x_first = a_f * begin + s_f * noise ─► estimate ─► x_t = a * estimate + s * (x_first - a_f * estimate) / s_f

    The returned noise is the one for which a * clean + s * noise is that x_t.

    In training x_t contains the true target, in sampling from the second step on the estimate of the step before; a
    network that was never trained on estimates takes their errors for the target's detail. All that follows, the
    prediction's target included, is as with any other noise. Source of the idea: Bengio et al., Scheduled Sampling for
    Sequence Prediction with Recurrent Neural Networks, NeurIPS 2015.

    Args:
        schedule: The diffusion process.
        clean: The targets, (B, C, h, w).
        noise: Random noise, (B, C, h, w).
        levels: Noise level of each target, (B,), at most `first`.
        begin: Signal in x_t at the start of sampling, (B, C, h, w); of no effect where that is pure noise.
        first: The noise level at which sampling starts.
        share: Share of the targets for which this is done.
        estimate: Maps indices of targets, (n,), to their estimates after one step from `first`, (n, C, h, w).
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
