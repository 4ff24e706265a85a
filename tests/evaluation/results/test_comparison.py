import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_rel

from ulcompress.evaluation.results.comparison import Point, compare


def point(values, bpp=0.1):
    """A point at one rate."""
    values = np.atleast_2d(np.asarray(values, float))
    return Point(np.full(values.shape, bpp), values)


def curve(rates, value, shape=(1, 6)):
    """Points whose values are a function of the rate, with an offset an image."""
    return [point(value(rate) + np.arange(shape[1]) * np.ones(shape), rate) for rate in rates]


def test_with_one_seed_it_is_the_interval_of_a_paired_t_test():
    rng = np.random.default_rng(0)
    base = rng.normal(25, 3, 24)
    variant = base + rng.normal(0.3, 0.5, 24)
    found = compare([point(base)], [point(variant)], better="higher")
    expected = ttest_rel(variant, base).confidence_interval()
    assert found.difference == pytest.approx((variant - base).mean()) and found.mean == pytest.approx(variant.mean())
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.03)
    assert (found.kind, found.images, found.seeds) == ("equal rate", 24, 1)
    assert found.wins == (variant > base).sum() and found.rate_percent == 0


def test_where_only_seeds_differ_it_is_the_t_test_over_seeds():
    of_seeds = np.array([0.1, 0.4, 0.25, 0.3, -0.1])
    images = np.arange(8) * np.ones((5, 1))
    found = compare([point(images)], [point(images + of_seeds[:, None])], better="higher")
    expected = ttest_1samp(of_seeds, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.03)
    one = compare([point(np.zeros((5, 1)))], [point(of_seeds[:, None])], better="higher", scope="set")
    assert (one.low, one.high, one.wins) == (pytest.approx(found.low), pytest.approx(found.high), None)


@pytest.mark.parametrize("deviations", [(0.3, 0.0, 0.5), (0.0, 0.5, 0.5), (0.2, 0.5, 0.5), (0.3, 1.0, 0.0)])
@pytest.mark.parametrize(("seeds", "images"), [(1, 24), (3, 24), (5, 10)])
def test_intervals_cover_the_truth_as_often_as_they_say(seeds, images, deviations):
    """Differences of normal effects of seed, image and both together, whose true mean is known."""
    rng, trials, covered = np.random.default_rng(1), 300, 0
    of_seed, of_image, of_both = deviations
    of_seed *= seeds > 1  # of which a single seed cannot tell anything
    for _ in range(trials):
        effects = rng.normal(0, 1, (seeds, 1)) * of_seed + rng.normal(0, 1, (1, images)) * of_image
        variant = 0.7 + effects + rng.normal(0, 1, (seeds, images)) * of_both
        found = compare([point(np.zeros((seeds, images)))], [point(variant)], better="higher")
        covered += found.low <= 0.7 <= found.high
    assert 0.90 <= covered / trials <= 0.99


RATES = np.array([0.02, 0.05, 0.1])


def quality(rate):
    return 30 + 8 * np.log10(rate)


def test_curves_of_several_rates_have_the_mean_distance_between_them():
    found = compare(curve(RATES, quality), curve(RATES * 1.3, lambda rate: quality(rate) + 0.5), better="higher")
    assert (found.kind, found.difference, found.wins) == ("bjontegaard", pytest.approx(0.5), 6)
    assert found.low == pytest.approx(0.5) and found.high == pytest.approx(0.5)  # no image differs from another
    assert found.rate_percent == pytest.approx(30)
    turned = compare(curve(RATES[::-1], quality), curve(RATES, lambda rate: quality(rate) + 0.5), better="lower")
    assert turned.difference == pytest.approx(0.5) and turned.wins == 0
    two = compare(curve(RATES[:2], quality), curve(RATES[:2], lambda rate: quality(rate) - 0.25), better="higher")
    assert (two.kind, two.difference) == ("bjontegaard", pytest.approx(-0.25))


def test_a_point_is_compared_with_the_curve_at_its_rate():
    rate = np.sqrt(RATES[0] * RATES[1])
    found = compare(curve(RATES, quality), curve([rate], lambda rate: quality(rate) - 1), better="higher")
    assert (found.kind, found.difference, found.wins) == ("interpolated", pytest.approx(-1), 0)
    turned = compare(curve([rate], quality), curve(RATES, lambda rate: quality(rate) - 1), better="higher")
    assert (turned.kind, turned.difference) == ("interpolated", pytest.approx(-1))
    assert turned.low == pytest.approx(-1) and turned.high == pytest.approx(-1)


def test_points_that_no_curve_spans_are_compared_as_they_are_and_said_to_be():
    near = compare(curve(RATES, quality), curve([0.0504], lambda _: 20), better="higher")
    assert near.kind == "equal rate" and near.difference == pytest.approx(20 - quality(0.05))
    assert near.rate_percent == pytest.approx(0.8)
    far = compare(curve(RATES, quality), curve([0.3], lambda _: 28), better="higher")
    assert (far.kind, far.rate_percent) == ("other rate", pytest.approx(200))
    apart = compare(curve(RATES, quality), curve(RATES * 10, quality), better="higher")
    assert (apart.kind, apart.difference) == ("other rate", pytest.approx(quality(0.2) - quality(0.1)))


def test_a_change_that_moves_the_rate_alone_is_no_difference():
    """Files of every image grow and get better along the base's own curve."""
    rng = np.random.default_rng(3)
    rates = [0.02 * rng.lognormal(0, 0.3, (3, 12)) * scale for scale in (1, 2, 4)]
    base = [Point(bpp, 8 * np.log(bpp.mean()) + rng.normal(0, 1, (3, 12))) for bpp in rates]
    moved = Point(rates[1] * 1.2, 8 * np.log(rates[1].mean() * 1.2) + base[1].values - base[1].values.mean())
    found = compare(base, [moved], better="higher")
    assert found.kind == "interpolated" and found.low < 0 < found.high


def test_one_image_and_one_seed_have_no_interval():
    found = compare([point([20.0])], [point([21.0])], better="higher")
    assert (found.difference, found.low, found.high, found.images, found.seeds) == (1, None, None, 1, 1)


def test_images_without_a_value_are_left_out_of_both():
    base, variant = np.full((2, 4), 20.0), np.full((2, 4), 21.0)
    base[0, 1] = variant[1, 2] = np.nan
    found = compare([point(base)], [point(variant)], better="higher")
    assert (found.images, found.difference, found.wins) == (2, 1, 2)
    nothing = compare([point(base * np.nan)], [point(variant)], better="higher")
    assert nothing.difference is None and nothing.refused == "no image has a value of both"


def test_points_of_one_rate_count_as_their_mean():
    above = [*curve(RATES, quality), *curve(RATES[:1], lambda rate: quality(rate) + 2)]
    both = [*curve(RATES[1:], quality), *curve(RATES[:1], lambda rate: quality(rate) + 1)]
    base = curve(RATES, quality)
    assert vars(compare(base, above, better="higher")) == vars(compare(base, both, better="higher"))
    steps = compare(
        [point([20.0, 21.0]), point([30.0, 31.0])], [point([22.0, 24.0]), point([31.0, 33.0])], better="higher"
    )
    assert (steps.kind, steps.difference, steps.mean, steps.wins) == ("equal rate", 2, 27.5, 2)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match=r"got points of \(seeds, images\) \[\(1, 2\), \(1, 3\)\]"):
        compare([point([1, 2])], [point([1, 2, 3])], better="higher")
    with pytest.raises(ValueError, match="give some of base and variant"):
        compare([], [point([1, 2])], better="higher")
