import numpy as np
import pytest

from ulcompress.evaluation.results.bootstrap import interval, mean_interval


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    values = np.random.default_rng(1).normal(20, 3, 400)
    low, high = mean_interval(values)
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error + 0.02)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error + 0.02)


def test_it_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    intervals = [mean_interval(rng.exponential(1, 50)) for _ in range(100)]
    assert 85 <= sum(low <= 1 <= high for low, high in intervals) <= 99


def test_it_is_the_same_on_every_call_and_in_any_order_of_calls():
    values = np.random.default_rng(3).random(24)
    first = mean_interval(values)
    np.random.default_rng(9).random(1000)
    mean_interval(values[:10])
    assert mean_interval(values) == first


def test_unknown_values_count_for_nothing():
    values = np.random.default_rng(4).random(24)
    assert mean_interval(np.concatenate([values, [np.nan, np.inf, np.nan]])) == mean_interval(values)


def test_equal_values_have_no_width():
    assert mean_interval(np.full(7, 2.5)) == (2.5, 2.5)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, np.nan]])
def test_fewer_than_two_images_have_no_interval(values):
    assert mean_interval(np.array(values)) is None


def test_a_statistic_is_given_as_many_images_as_there_are_with_repetitions():
    seen = []

    def statistic(chosen):
        seen.append(chosen)
        return float(len(set(chosen.tolist())))

    low, high = interval(statistic, 6, resamples=200)
    assert len(seen) == 200 and all(len(chosen) == 6 and chosen.min() >= 0 and chosen.max() < 6 for chosen in seen)
    assert 1 < low < high < 6


def test_draws_without_a_number_are_left_out_and_most_of_them_leave_none():
    assert interval(lambda chosen: np.nan if 0 in chosen[:1] else 1.0, 8) == (1.0, 1.0)
    assert interval(lambda chosen: 1.0 if 0 in chosen[:1] else np.nan, 8) is None
