import math

import pytest
import torch

from ulcompress.diffusion import ContinuousSchedule
from ulcompress.diffusion.continuous_schedule import LOWEST, PATHS

CPU = torch.device("cpu")


def test_the_paths_are_their_closed_forms():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    alpha, sigma = (value.flatten() for value in ContinuousSchedule().coefficients(t))
    torch.testing.assert_close(alpha, 1 - t)
    torch.testing.assert_close(sigma, t)
    alpha, sigma = (value.flatten() for value in ContinuousSchedule(path="variance_preserving").coefficients(t))
    torch.testing.assert_close(alpha, (math.pi / 2 * t).cos())
    torch.testing.assert_close(sigma, (math.pi / 2 * t).sin())


@pytest.mark.parametrize("path", PATHS)
def test_the_ends_are_exact(path):
    alpha, sigma = ContinuousSchedule(path=path).coefficients(torch.tensor([0.0, 1.0]))
    assert alpha.flatten().tolist() == [1, 0] and sigma.flatten().tolist() == [0, 1]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("steps", [2, 3, 10])
def test_sampling_levels_are_even_in_log_snr_between_the_ends(path, steps):
    schedule = ContinuousSchedule(path=path, log_snr_min=-5.0, log_snr_max=7.0)
    first, *levels = schedule.sampling_levels(steps)
    assert first == 1.0
    log_snr = torch.tensor([schedule.log_snr(level) for level in levels])
    torch.testing.assert_close(log_snr, torch.linspace(-5, 7, steps + 1)[1:-1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("path", PATHS)
def test_a_late_start_spreads_the_steps_below_it(path):
    schedule = ContinuousSchedule(path=path)
    levels = schedule.sampling_levels(4, start=0.4)
    assert levels[0] == 0.4
    log_snr = torch.tensor([*map(schedule.log_snr, levels), 4.0])
    torch.testing.assert_close(log_snr.diff(), torch.full((4,), float(4 - log_snr[0]) / 4), atol=1e-4, rtol=1e-4)


def test_a_start_that_is_clean_already_allows_one_step():
    schedule = ContinuousSchedule(log_snr_max=2.0)
    assert schedule.sampling_levels(1, start=0.1) == [0.1]
    with pytest.raises(ValueError, match=r"begins with a log-SNR of 4\.39, not below log_snr_max=2\.0; start higher"):
        schedule.sampling_levels(2, start=0.1)


def test_sampling_levels_can_be_listed():
    schedule = ContinuousSchedule(sampling=[0.9, 0.5, 0.2])
    assert schedule.sampling_levels(4) == [1.0, 0.9, 0.5, 0.2]
    assert schedule.sampling_levels(1) == [1.0]
    assert schedule.sampling_levels(2, start=0.5) == [0.5, 0.2]
    assert ContinuousSchedule(sampling=[1.0, 0.5]).sampling_levels(2) == [1.0, 0.5]
    with pytest.raises(ValueError, match="this schedule has 4 sampling levels; got steps=3, give that or 1"):
        schedule.sampling_levels(3)


@pytest.mark.parametrize("mean, deviation, start", [(0.0, 1.0, 1.0), (-0.5, 0.7, 0.6)])
def test_training_levels_are_logit_normal_below_the_start(mean, deviation, start):
    torch.manual_seed(0)
    levels = ContinuousSchedule(mean=mean, deviation=deviation).draw(20_000, CPU, start)
    assert levels.dtype == torch.float32 and levels.max() <= start
    logit = (levels.double() / start).logit()
    assert abs(float(logit.mean()) - mean) < 0.03 and abs(float(logit.std()) - deviation) < 0.03


def test_training_never_draws_a_level_without_noise():
    levels = ContinuousSchedule(mean=-30.0).draw(100, CPU, 0.5)
    torch.testing.assert_close(levels, torch.full((100,), 0.5 * LOWEST))


def test_times_are_levels_on_the_scale_of_stable_diffusion():
    torch.testing.assert_close(ContinuousSchedule().times(torch.tensor([0.0, 0.5, 1.0])), torch.tensor([0, 499.5, 999]))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"path": "cosine"}, "path must be one of straight, variance_preserving, got 'cosine'"),
        ({"deviation": 0.0}, "deviation must be positive .* got 0.0"),
        ({"log_snr_min": 4.0}, "log_snr_min below log_snr_max, got 1.0, 4.0 and 4.0"),
        ({"sampling": []}, "falling levels above 0, at most 1, got "),
        ({"sampling": [0.2, 0.5]}, "falling levels above 0, at most 1, got"),
        ({"sampling": [0.5, 0.5]}, "falling levels above 0, at most 1, got"),
        ({"sampling": [0.5, 0.0]}, "falling levels above 0, at most 1, got"),
        ({"sampling": [1.5, 0.5]}, "falling levels above 0, at most 1, got"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ContinuousSchedule(**options)
