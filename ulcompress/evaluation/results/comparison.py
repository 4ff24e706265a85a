"""How much better or worse a variant is than its base at equal rate, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import bjontegaard
import numpy as np
from scipy.special import stdtrit

from ulcompress.evaluation.results.bjontegaard import METHOD, OVERLAP
from ulcompress.evaluation.results.bootstrap import SHARE

NEAR = 0.01
"""Share of the base's rate by which two rates that count as equal may differ."""
SAME = 1e-6
"""Share by which the rates of two points of one curve may differ that count as one: settings of the decoder alone."""
RESAMPLES = 500
"""Draws from which the variance of a difference is found, over seeds and over images."""
KINDS = {
    "equal rate": f"plain difference; the two rates are within {100 * NEAR:.0f} % of each other",
    "interpolated": "difference at the rate of the single point, by linear interpolation of the other curve over the "
    "logarithm of its rate",
    "bjontegaard": "Bjøntegaard difference: the mean vertical distance of the two curves over the rates of both",
    "other rate": "plain difference of points whose rates differ, which no curve spans; part of it is the rate's",
}
"""What a difference is of, and how it was found."""
SEEDS, IMAGES = -2, -1
"""Axes of numbers."""

Measure = Callable[[np.ndarray, np.ndarray], float]
"""Maps rates and values of a base, (2, points), and of a variant to a difference of values; NaN where there is none."""


@dataclass(frozen=True)
class Point:
    """A codec at one setting, measured with one or more seeds."""

    bpp: np.ndarray
    """Bits a pixel, (seeds, images)."""
    values: np.ndarray
    """A metric, (seeds, images); NaN where it is not defined. One of a set of images is (seeds, 1) for both."""


@dataclass(frozen=True)
class Comparison:
    """The difference of a variant to its base."""

    mean: float | None
    """The variant's value: over seeds, images and its points."""
    difference: float | None
    """Variant minus base, in the unit of the metric; None where it is refused."""
    low: float | None
    """Lower end of the 95 % interval of the difference; None with neither two seeds nor two images."""
    high: float | None
    images: int
    """Images that both have, of which each metric value is known with every seed."""
    seeds: int
    """With a single one the interval is over images alone: it says nothing about another training."""
    wins: int | None
    """Images on which the variant is better, by the mean over seeds; None where values are of whole sets."""
    rate_percent: float | None
    """How many more bits than the base the variant takes, over all points of both that were compared."""
    kind: str
    """One of `KINDS`."""
    refused: str | None = None
    """Why there is no difference, in one line."""


def compare(base: Sequence[Point], variant: Sequence[Point], *, better: str, scope: str = "image") -> Comparison:
    """Return the difference of a variant to its base at equal rate, with a 95 % interval.

    Seeds and images are paired: the seed at one place is the same for all points, and so is the image. Points of one
    rate, such as numbers of steps at the same files, count as one with their mean value. Two curves that share half of
    their rates are compared over these, a point and a curve at the point's rate, and two points as they are (`KINDS`).

    The interval is Student's, around the difference. Its variance is the sum of two bootstraps, over seeds with all
    images and over images with all seeds, since seeds and images are crossed (Owen, The pigeonhole bootstrap, Annals of
    Applied Statistics, 2007); what only an image and a seed together decide counts in both, so the interval is rather
    too wide than too narrow. Each draws one fewer than there are, which leaves the variance of a mean without bias (Rao
    and Wu, Journal of the American Statistical Association, 1988). The degrees of freedom are Satterthwaite's. With one
    seed and points of one rate this is the interval of a paired t-test.

    Args:
        base: Points of the base's curve, one or more, in any order.
        variant: Those of the variant.
        better: `higher` or `lower`: which values are good.
        scope: `image` or `set`: what the values are of.

    Raises:
        ValueError: The points are not of as many seeds and images, or there are none.
    """
    numbers = _numbers(base, variant)
    known = np.all([np.isfinite(one).all(axis=(0, 1, SEEDS)) for one in numbers], axis=0)
    curves = [_by_rate(one[..., known]) for one in numbers]
    seeds, images = curves[1].shape[SEEDS:]
    if not images:
        return Comparison(None, None, None, None, 0, seeds, None, None, "other rate", "no image has a value of both")
    kind, curves = _matched(*curves)
    mean = float(curves[1][1].mean())
    rates = [float(curve[0].mean()) for curve in curves]
    found = Comparison(mean, None, None, None, images, seeds, None, 100 * (rates[1] / rates[0] - 1), kind)
    difference = MEASURES[kind](*map(_means, curves))
    low, high = _interval(MEASURES[kind], *curves, difference) or (None, None)
    wins = _wins(MEASURES[kind], *curves, better=better) if scope == "image" else None
    return replace(found, difference=difference, low=low, high=high, wins=wins)


def _numbers(base: Sequence[Point], variant: Sequence[Point]) -> list[np.ndarray]:
    """Return rates and values of base and variant, (2, points, seeds, images) each."""
    shapes = {array.shape for point in (*base, *variant) for array in (point.bpp, point.values)}
    if not base or not variant or len(shapes) > 1:
        raise ValueError(f"got points of (seeds, images) {sorted(shapes)}; give some of base and variant, all alike")
    return [np.array([[p.bpp for p in points], [p.values for p in points]], float) for points in (base, variant)]


def _means(curve: np.ndarray) -> np.ndarray:
    """Return rates and values, (2, points)."""
    return curve.mean(axis=(SEEDS, IMAGES))


def _by_rate(curve: np.ndarray) -> np.ndarray:
    """Return a curve in the order of its rates, of which each is there once."""
    if not curve.size:
        return curve
    curve = curve[:, np.argsort(_means(curve)[0], kind="stable")]
    starts = np.flatnonzero(np.diff(np.log(_means(curve)[0])) > SAME) + 1
    return np.stack([points.mean(axis=1) for points in np.split(curve, starts, axis=1)], axis=1)


def _matched(base: np.ndarray, variant: np.ndarray) -> tuple[str, tuple[np.ndarray, np.ndarray]]:
    """Return a kind, and of both curves the points that it compares."""
    rates, others = _means(base)[0], _means(variant)[0]
    if min(len(rates), len(others)) > 1 and _overlap(np.log(rates), np.log(others)) >= OVERLAP:
        return "bjontegaard", (base, variant)
    distances = np.abs(np.log(rates[:, None] / others))
    one, other = np.unravel_index(distances.argmin(), distances.shape)
    nearest = base[:, [one]], variant[:, [other]]
    if distances.min() <= np.log1p(NEAR):
        return "equal rate", nearest
    if len(others) == 1 and rates[0] < others[0] < rates[-1]:
        return "interpolated", (base, variant)
    if len(rates) == 1 and others[0] < rates[0] < others[-1]:
        return "interpolated", (base, variant)
    return "other rate", nearest


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Return the share of the shorter of two ranges that both have; ends are the first and the last number."""
    shorter = min(one[-1] - one[0], other[-1] - other[0])
    return (min(one[-1], other[-1]) - max(one[0], other[0])) / shorter if shorter > 0 else 0.0


def _plain(base: np.ndarray, variant: np.ndarray) -> float:
    return float(variant[1, 0] - base[1, 0])


def _interpolated(base: np.ndarray, variant: np.ndarray) -> float:
    if variant.shape[1] > 1:
        return -_interpolated(variant, base)
    return float(variant[1, 0] - np.interp(np.log(variant[0, 0]), np.log(base[0]), base[1]))


def _bjontegaard(base: np.ndarray, variant: np.ndarray) -> float:
    """Return the mean vertical distance (Bjøntegaard, VCEG-M33, 2001); NaN where rates do not increase."""
    if any((np.diff(rates) <= 0).any() for rates in (base[0], variant[0])):
        return math.nan
    found = bjontegaard.bd_psnr(*base, *variant, method=METHOD, require_matching_points=False, min_overlap=0.0)
    return float(found)  # pyright: ignore[reportArgumentType]


MEASURES: dict[str, Measure] = {
    "equal rate": _plain,
    "interpolated": _interpolated,
    "bjontegaard": _bjontegaard,
    "other rate": _plain,
}


def _wins(measure: Measure, base: np.ndarray, variant: np.ndarray, *, better: str) -> int:
    """Count the images whose own values, at the rates of all, are better."""
    rates = [_means(curve)[0] for curve in (base, variant)]
    values = [curve[1].mean(axis=SEEDS).T for curve in (base, variant)]  # (images, points)
    of_images = [measure(*map(np.stack, zip(rates, pair, strict=True))) for pair in zip(*values, strict=True)]
    return sum(value > 0 if better == "higher" else value < 0 for value in of_images)


def _interval(measure: Measure, base: np.ndarray, variant: np.ndarray, difference: float) -> tuple[float, float] | None:
    """Return the ends of Student's interval of a difference; None where nothing was measured twice."""
    counts = {axis: base.shape[axis] for axis in (SEEDS, IMAGES) if base.shape[axis] > 1}
    variances = {axis: _variance(measure, base, variant, axis) for axis in counts}
    if not variances or not all(map(math.isfinite, variances.values())):
        return None
    total = sum(variances.values())
    if total == 0:
        return difference, difference
    freedom = total**2 / sum(variances[axis] ** 2 / (count - 1) for axis, count in counts.items())
    half = float(stdtrit(freedom, (1 + SHARE) / 2)) * math.sqrt(total)
    return difference - half, difference + half


def _variance(measure: Measure, base: np.ndarray, variant: np.ndarray, axis: int) -> float:
    """Return the variance of a difference over draws of seeds or of images; NaN where most have no difference."""
    count = base.shape[axis]
    weights = _weights(count)
    other = SEEDS + IMAGES - axis
    drawn = [curve.mean(axis=other) @ weights.T for curve in (base, variant)]  # (2, points, draws)
    found = np.array([measure(drawn[0][..., draw], drawn[1][..., draw]) for draw in range(RESAMPLES)])
    known = found[np.isfinite(found)]
    return float(known.var()) if len(known) > RESAMPLES / 2 else math.nan


@lru_cache(maxsize=4)
def _weights(count: int) -> np.ndarray:
    """Return how often each of so many is in a draw, over the size of that draw, (draws, count)."""
    return np.random.default_rng(0).multinomial(count - 1, np.full(count, 1 / count), RESAMPLES) / (count - 1)
