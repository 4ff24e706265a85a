"""Bjøntegaard deltas: how many more or fewer bits a curve takes for the same quality, on average."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import bjontegaard
import numpy as np

METHOD = "pchip"
"""Piecewise cubic Hermite interpolation of the logarithm of the rate, which does not overshoot."""
FEWEST = 3
"""Points of a curve."""
OVERLAP = 0.5
"""Share of the qualities of the shorter curve that both must have."""


@dataclass(frozen=True)
class Delta:
    """A difference of rates, or the reason why it is not defined."""

    rate_percent: float | None = None
    """Below zero where the curve needs fewer bits than the reference."""
    refused: str | None = None
    """One line."""


def rate_delta(reference: Sequence[tuple[float, float]], curve: Sequence[tuple[float, float]], *, better: str) -> Delta:
    """Compare two curves of points (bpp, quality), in any order.

    Bjøntegaard, Calculation of average PSNR differences between RD-curves, VCEG-M33, 2001, by the package of that name.

    Args:
        reference: The curve whose rate is 100 %.
        curve: The one that is judged.
        better: `higher` or `lower`: which values of the quality are good.
    """
    curves = [sorted((bpp, value if better == "higher" else -value) for bpp, value in c) for c in (reference, curve)]
    for name, points in zip(("the reference", "the curve"), curves, strict=True):
        if len(points) < FEWEST:
            return Delta(refused=f"{name} has {len(points)} points; at least {FEWEST} are needed")
        if not all(np.isfinite(points).ravel()) or points[0][0] <= 0:
            return Delta(refused=f"{name} has a point without rate or value")
        if any(late <= early for (early, _), (late, _) in pairwise(points)):
            return Delta(refused=f"{name} has two points of one rate")
        if any(late <= early for (_, early), (_, late) in pairwise(points)):
            return Delta(refused=f"{name} does not get better with every step of its rate")
    share = _overlap(*([value for _, value in points] for points in curves))
    if share < OVERLAP:
        return Delta(refused=f"the curves have {100 * max(0.0, share):.0f} % of their qualities in common, too few")
    (rates, values), (curve_rates, curve_values) = (zip(*points, strict=True) for points in curves)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        delta = bjontegaard.bd_rate(
            np.array(rates), np.array(values), np.array(curve_rates), np.array(curve_values),
            method=METHOD, require_matching_points=False, min_overlap=0.0,
        )  # fmt: skip
    return Delta(rate_percent=float(delta))  # pyright: ignore[reportArgumentType]


def _overlap(values: Sequence[float], others: Sequence[float]) -> float:
    common = min(values[-1], others[-1]) - max(values[0], others[0])
    return common / min(values[-1] - values[0], others[-1] - others[0])
