import numpy as np
import pytest
from numpy.polynomial import Polynomial

from ulcompress.evaluation.results.bjontegaard import rate_delta

RATES = np.array([0.02, 0.04, 0.07, 0.12, 0.2])


def curve(rates, factor=1.0):
    """A curve of PSNR that takes `factor` times the rate of another for the same quality."""
    return [(factor * rate, 30 + 8 * np.log10(rate)) for rate in rates]


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.3, 3.0])
def test_a_curve_that_takes_so_many_times_the_rate(factor):
    delta = rate_delta(curve(RATES), curve(RATES, factor), better="higher")
    assert delta.refused is None and delta.rate_percent == pytest.approx(100 * (factor - 1), abs=1e-9)


def test_the_order_of_points_and_their_number_do_not_matter():
    shuffled = [curve(RATES, 0.8)[index] for index in (3, 0, 4, 1, 2)]
    assert rate_delta(curve(RATES[:4]), shuffled, better="higher").rate_percent == pytest.approx(-20)


def test_of_a_distance_less_is_better():
    lower = [[(rate, -value) for rate, value in curve(RATES, factor)] for factor in (1.0, 0.6)]
    assert rate_delta(*lower, better="lower").rate_percent == pytest.approx(-40)
    assert rate_delta(*lower, better="higher").refused is not None


def test_it_is_near_to_the_cubic_polynomials_of_the_original_proposal():
    """VCEG-M33: cubics of the logarithm of the rate through four points, integrated over the common qualities."""
    reference = [(0.10, 28.1), (0.21, 30.6), (0.40, 33.0), (0.75, 35.4)]
    own = [(0.09, 28.4), (0.19, 30.9), (0.36, 33.3), (0.70, 35.9)]
    low, high = max(reference[0][1], own[0][1]), min(reference[-1][1], own[-1][1])
    areas = []
    for points in (reference, own):
        rates, values = np.array(points).T
        integral = Polynomial.fit(values, np.log10(rates), 3).integ()
        areas.append(integral(high) - integral(low))
    expected = 100 * (10 ** ((areas[1] - areas[0]) / (high - low)) - 1)
    assert rate_delta(reference, own, better="higher").rate_percent == pytest.approx(expected, abs=0.5)


REFUSED = [
    (curve(RATES)[:2], "the curve has 2 points"),
    ([(rate, value + 12) for rate, value in curve(RATES)], "0 % of their qualities"),
    ([(rate, value + 5) for rate, value in curve(RATES)], "38 % of their qualities"),
    ([*curve(RATES), (0.3, 20.0)], "does not get better"),
    ([*curve(RATES), (0.3, curve(RATES)[-1][1])], "does not get better"),
    ([(0.05, value) for _, value in curve(RATES)], "two points of one rate"),
    ([*curve(RATES), (0.3, np.inf)], "without rate or value"),
    ([*curve(RATES), (0.3, np.nan)], "without rate or value"),
    ([*curve(RATES), (0.0, 10.0)], "without rate or value"),
]


@pytest.mark.parametrize(("points", "reason"), REFUSED)
def test_a_comparison_that_would_mean_nothing_is_refused_in_one_line(points, reason):
    delta = rate_delta(curve(RATES), points, better="higher")
    assert delta.rate_percent is None
    assert delta.refused is not None and reason in delta.refused and "\n" not in delta.refused
    swapped = rate_delta(points, curve(RATES), better="higher")
    assert swapped.refused == delta.refused.replace("the curve has", "the reference has").replace(
        "the curve does", "the reference does"
    )
