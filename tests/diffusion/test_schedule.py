import inspect
import math

import jsonargparse
import pytest
import torch

from ulcompress import diffusion
from ulcompress.diffusion import ContinuousSchedule, DiscreteSchedule, Schedule

CPU = torch.device("cpu")


def test_every_class_is_here():
    exported = (getattr(diffusion, name) for name in diffusion.__all__)
    classes = {c for c in exported if inspect.isclass(c) and issubclass(c, Schedule)}
    assert {c for c in classes if not inspect.isabstract(c)} == {DiscreteSchedule, ContinuousSchedule}


def test_the_signal_falls_and_the_noise_rises_with_the_level(schedule, levels_of):
    alpha, sigma = schedule.coefficients(levels_of(schedule))
    assert alpha.shape == sigma.shape == (4, 1, 1, 1)
    assert (alpha.diff(dim=0) < 0).all() and (sigma.diff(dim=0) > 0).all()
    assert alpha[0] > 0.99 and sigma[0] < 0.1
    assert (float(alpha[-1]), float(sigma[-1])) == (0, 1) or not schedule.pure_noise


def test_denoisers_see_times_from_0_to_999(schedule, levels_of):
    times = schedule.times(levels_of(schedule))
    torch.testing.assert_close(times.float(), torch.tensor([0.0, 299.0, 699.0, 999.0]), atol=1, rtol=0)


def test_noisy_mixes_signal_and_noise(schedule, levels_of):
    levels = levels_of(schedule)
    clean, noise = torch.randn(2, 4, 3, 2, 2)
    alpha, sigma = schedule.coefficients(levels)
    torch.testing.assert_close(schedule.noisy(clean, noise, levels), alpha * clean + sigma * noise)


def test_a_step_keeps_the_noise_and_the_clean_sample(schedule, levels_of):
    levels = levels_of(schedule)
    clean, noise = torch.randn(2, 3, 3, 2, 2)
    noisy = schedule.noisy(clean, noise, levels[1:])
    stepped = schedule.step(noisy, clean, levels[1:], levels[:-1])
    torch.testing.assert_close(stepped, schedule.noisy(clean, noise, levels[:-1]), atol=1e-5, rtol=1e-5)


def test_the_log_snr_is_that_of_the_coefficients(schedule, levels_of):
    levels = levels_of(schedule)
    for level, alpha, sigma in zip(levels.tolist(), *schedule.coefficients(levels), strict=True):
        expected = 2 * math.log(alpha / sigma) if alpha > 0 else -math.inf
        assert schedule.log_snr(level) == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("start", [1.0, 0.5, 0.2])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_sampling_levels_fall_from_the_start(schedule, start, steps):
    levels = schedule.sampling_levels(steps, start)
    assert len(levels) == steps and levels[0] == schedule.highest(start)
    assert levels == sorted(set(levels), reverse=True) and levels[-1] >= 0


@pytest.mark.parametrize("start", [1.0, 0.3, 0.004])
def test_training_draws_no_level_above_the_start(schedule, start):
    levels = schedule.draw(5000, CPU, start)
    assert levels.shape == (5000,)
    assert levels.min() >= 0 and levels.max() <= schedule.at(schedule.highest(start), levels)[0]
    assert levels.float().mean() > 0.3 * schedule.highest(start), "the whole range is used"
    assert levels.dtype == schedule.at(schedule.highest(start), levels).dtype


@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps_are_refused(schedule, steps):
    with pytest.raises(ValueError, match=f"steps must be .*1.*, got {steps}"):
        schedule.sampling_levels(steps)


@pytest.mark.parametrize("start", [0.0, -0.5, 1.1, float("nan")])
def test_shares_outside_the_process_are_refused(schedule, start):
    with pytest.raises(ValueError, match=f"more than 0 and at most 1.*, got {start}"):
        schedule.highest(start)


@pytest.mark.parametrize(
    "made", [DiscreteSchedule(training_levels=50), ContinuousSchedule(path="variance_preserving", sampling=[0.5, 0.2])]
)
def test_a_configuration_builds_an_equal_schedule(made):
    parser = jsonargparse.ArgumentParser()
    parser.add_argument("--schedule", type=Schedule)
    again = parser.instantiate(parser.parse_object({"schedule": made.config()})).schedule
    assert again.config() == made.config()
    assert again.sampling_levels(3) == made.sampling_levels(3)
