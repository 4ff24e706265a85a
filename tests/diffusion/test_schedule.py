import inspect

import jsonargparse
import pytest
import torch

from ulcompress import diffusion
from ulcompress.diffusion import ContinuousSchedule, DiscreteSchedule, Schedule
from ulcompress.testing import check_schedule

CPU = torch.device("cpu")


def test_every_class_is_here():
    exported = (getattr(diffusion, name) for name in diffusion.__all__)
    classes = {c for c in exported if inspect.isclass(c) and issubclass(c, Schedule)}
    assert {c for c in classes if not inspect.isabstract(c)} == {DiscreteSchedule, ContinuousSchedule}


def test_it_keeps_the_contract(schedule):
    check_schedule(schedule)


@pytest.mark.parametrize("start", [1.0, 0.3, 0.004])
def test_training_draws_from_the_whole_range(schedule, start):
    assert schedule.draw(5000, CPU, start).float().mean() > 0.3 * schedule.highest(start)


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


def test_the_origin_of_a_step_is_the_estimate_that_it_was_made_with(schedule):
    generator = torch.Generator().manual_seed(0)
    noisy, clean = torch.randn(2, 1, 3, 4, 4, generator=generator)
    level, following = (schedule.at(each, noisy) for each in schedule.sampling_levels(2))
    moved = schedule.step(noisy, clean, level, following)
    torch.testing.assert_close(schedule.origin(noisy, moved, level, following), clean, atol=1e-4, rtol=1e-4)
