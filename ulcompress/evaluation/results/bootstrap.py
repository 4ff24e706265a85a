"""How much a number would change with other images of the same kind."""

from collections.abc import Callable

import numpy as np

RESAMPLES = 1000
SHARE = 0.95
"""Share of the resamples that lie within an interval."""

Interval = tuple[float, float]


def interval(statistic: Callable[[np.ndarray], float], count: int, *, resamples: int = RESAMPLES) -> Interval | None:
    """Return the percentile interval of a statistic over images, with 95 % between its ends.

    Efron, Bootstrap Methods: Another Look at the Jackknife, Annals of Statistics, 1979. The same on every call.

    Args:
        statistic: Maps indices of images, (count,) with repetitions, to a number; NaN where it is not defined.
        count: Of images.
        resamples: Draws with replacement.

    Returns:
        Its ends; None with fewer than two images, or where fewer than half of the draws give a number.
    """
    if count < 2:
        return None
    generator = np.random.default_rng(0)
    values = np.array([statistic(generator.integers(0, count, count)) for _ in range(resamples)])
    known = values[np.isfinite(values)]
    if len(known) < resamples / 2:
        return None
    low, high = np.quantile(known, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return float(low), float(high)


def mean_interval(values: np.ndarray) -> Interval | None:
    """Return the interval of the mean of one number an image, (count,), as `interval` does; NaN counts for nothing."""
    known = values[np.isfinite(values)]
    return interval(lambda chosen: float(known[chosen].mean()), len(known))
