import pytest
import torch

from ulcompress.diffusion import ContinuousSchedule, DiscreteSchedule
from ulcompress.diffusion.prediction import Prediction
from ulcompress.diffusion.scheduled_sampling import scheduled_noise

LEVELS = {
    DiscreteSchedule: torch.tensor([999, 749, 499, 249, 999, 99]),
    ContinuousSchedule: torch.tensor([1.0, 0.75, 0.5, 0.25, 1.0, 0.1]),
}


@pytest.fixture(params=LEVELS, ids=lambda cls: cls.__name__)
def schedule(request):
    return request.param()


def drawn(schedule):
    torch.manual_seed(0)
    return torch.randn(6, 2, 4, 4), torch.randn(6, 2, 4, 4), LEVELS[type(schedule)]


def options_of(schedule, clean):
    return {"begin": torch.zeros_like(clean), "first": schedule.highest(), "share": 1.0}


def test_x_t_shows_the_estimate_but_where_sampling_starts(schedule):
    clean, noise, levels = drawn(schedule)
    shown = torch.randn_like(clean)
    options = options_of(schedule, clean)
    result = scheduled_noise(schedule, clean, noise, levels, estimate=lambda rows: shown[rows], **options)
    later = levels < schedule.highest()
    seen = schedule.noisy(clean, result, levels)
    torch.testing.assert_close(seen[later], schedule.noisy(shown, noise, levels)[later])
    assert torch.equal(result[~later], noise[~later])


def test_a_late_start_shows_what_a_step_of_the_sampler_makes(schedule):
    clean, noise, levels = drawn(schedule)
    first = schedule.highest(0.8)
    levels = torch.minimum(levels, schedule.at(first, levels))
    begin, shown = torch.randn_like(clean), torch.randn_like(clean)
    options = {"begin": begin, "first": first, "share": 1.0}
    result = scheduled_noise(schedule, clean, noise, levels, estimate=lambda rows: shown[rows], **options)
    start = schedule.at(first, levels)
    noisy = schedule.noisy(begin, noise, start)
    stepped = schedule.step(noisy, shown, start, levels)
    expected = torch.where((levels < first)[:, None, None, None], stepped, noisy)
    torch.testing.assert_close(schedule.noisy(clean, result, levels), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("prediction", ["sample", "v_prediction", "velocity"])
def test_the_target_is_still_the_clean_one(schedule, prediction):
    clean, noise, levels = drawn(schedule)
    options = options_of(schedule, clean)
    result = scheduled_noise(schedule, clean, noise, levels, estimate=lambda rows: 0 * clean[rows], **options)
    algebra = Prediction.of(prediction, *schedule.coefficients(levels))
    implied = algebra.estimate(algebra.target(clean, result), schedule.noisy(clean, result, levels))
    torch.testing.assert_close(implied, clean, atol=1e-5, rtol=1e-5)


def test_a_share_of_them_and_no_gradient_through_the_estimate():
    schedule = DiscreteSchedule()
    clean, noise = torch.zeros(400, 1, 1, 1), torch.zeros(400, 1, 1, 1)
    weight = torch.ones((), requires_grad=True)
    levels = torch.full((400,), 499)
    options = {"begin": clean, "first": 999, "estimate": lambda rows: weight * torch.ones(len(rows), 1, 1, 1)}
    result = scheduled_noise(schedule, clean, noise, levels, share=0.25, **options)
    assert not result.requires_grad
    assert 60 < int((result != 0).sum()) < 140
    assert torch.equal(scheduled_noise(schedule, clean, noise, levels, share=0.0, **options), noise)
