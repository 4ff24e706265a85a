import pytest
import torch
from ulcompress.diffusion.rehearsal import rehearsed

from ulcompress.diffusion import NoiseSchedule


@pytest.fixture(params=["sample", "v_prediction"])
def schedule(request):
    return NoiseSchedule(prediction=request.param)


def drawn():
    torch.manual_seed(0)
    return torch.randn(6, 2, 4, 4), torch.randn(6, 2, 4, 4), torch.tensor([999, 749, 499, 249, 999, 99])


def test_x_t_shows_the_estimate_but_where_sampling_starts(schedule):
    clean, noise, times = drawn()
    shown = torch.randn_like(clean)
    options = {"begin": torch.zeros_like(clean), "first": 999, "share": 1.0}
    result = rehearsed(schedule, clean, noise, times, estimate=lambda rows: shown[rows], **options)
    later = times < 999
    seen = schedule.noisy(clean, result, times)
    torch.testing.assert_close(seen[later], schedule.noisy(shown, noise, times)[later])
    assert torch.equal(result[~later], noise[~later])


def test_the_target_is_still_the_clean_one(schedule):
    clean, noise, times = drawn()
    options = {"begin": torch.zeros_like(clean), "first": 999, "share": 1.0}
    result = rehearsed(schedule, clean, noise, times, estimate=lambda rows: 0 * clean[rows], **options)
    target = schedule.target(clean, result, times)
    torch.testing.assert_close(schedule.estimate(target, schedule.noisy(clean, result, times), times), clean)


def test_a_share_of_them_and_no_gradient_through_the_estimate(schedule):
    clean, noise = torch.zeros(400, 1, 1, 1), torch.zeros(400, 1, 1, 1)
    weight = torch.ones((), requires_grad=True)
    times = torch.full((400,), 499)
    options = {"begin": clean, "first": 999, "estimate": lambda rows: weight * torch.ones(len(rows), 1, 1, 1)}
    result = rehearsed(schedule, clean, noise, times, share=0.25, **options)
    assert not result.requires_grad
    assert 60 < int((result != 0).sum()) < 140
    assert torch.equal(rehearsed(schedule, clean, noise, times, share=0.0, **options), noise)
