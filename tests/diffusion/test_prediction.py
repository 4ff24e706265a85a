import pytest
import torch

from ulcompress.diffusion import DiscreteSchedule
from ulcompress.diffusion.diffusers_sampler import scheduler_of
from ulcompress.diffusion.prediction import PREDICTIONS, Prediction

ALPHAS, SIGMAS = torch.rand(2, 5, 1, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1


def drawn():
    clean, noise = torch.randn(2, 5, 3, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return clean, noise, ALPHAS * clean + SIGMAS * noise


def test_targets_are_the_closed_forms():
    clean, noise, _ = drawn()
    expected = {
        "v_prediction": ALPHAS * noise - SIGMAS * clean,
        "epsilon": noise,
        "sample": clean,
        "velocity": noise - clean,
    }
    assert set(expected) == set(PREDICTIONS)
    for name, value in expected.items():
        torch.testing.assert_close(Prediction.of(name, ALPHAS, SIGMAS).target(clean, noise), value)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_estimate_is_the_inverse_of_target(name):
    clean, noise, noisy = drawn()
    prediction = Prediction.of(name, ALPHAS, SIGMAS)
    torch.testing.assert_close(prediction.estimate(prediction.target(clean, noise), noisy), clean)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_the_determinant_turns_errors_of_the_clean_sample_into_those_of_the_prediction(name):
    clean, noise, noisy = drawn()
    prediction = Prediction.of(name, ALPHAS, SIGMAS)
    wrong = clean + 0.1
    moved = prediction.target(wrong, (noisy - ALPHAS * wrong) / SIGMAS) - prediction.target(clean, noise)
    torch.testing.assert_close(moved, (-prediction.determinant / SIGMAS * 0.1).expand_as(moved))


@pytest.mark.parametrize("name", ["v_prediction", "epsilon", "velocity"])
def test_the_baseline_is_the_mean_under_unit_variance(name):
    """The regression of the prediction on x_t, where x_0 has unit variance about the estimate."""
    known, _, noisy = drawn()
    beyond = (noisy - ALPHAS * known) / (ALPHAS**2 + SIGMAS**2)
    prediction = Prediction.of(name, ALPHAS, SIGMAS)
    mean = prediction.target(known + ALPHAS * beyond, SIGMAS * beyond)
    torch.testing.assert_close(prediction.baseline(known, noisy), mean)


def test_the_baseline_of_a_clean_sample_is_the_estimate():
    known, _, noisy = drawn()
    assert torch.equal(Prediction.of("sample", ALPHAS, SIGMAS).baseline(known, noisy), known)


@pytest.mark.parametrize("name", ["v_prediction", "sample", "velocity"])
def test_at_pure_noise_the_baseline_implies_the_estimate(name):
    known, _, noise = drawn()
    prediction = Prediction.of(name, torch.zeros_like(ALPHAS), torch.ones_like(SIGMAS))
    torch.testing.assert_close(prediction.estimate(prediction.baseline(known, noise), noise), known)


def test_v_at_pure_noise_is_the_negative_of_the_image():
    clean, noise, _ = drawn()
    prediction = Prediction.of("v_prediction", *DiscreteSchedule().coefficients(torch.full((5,), 999)))
    assert torch.equal(prediction.target(clean, noise), -clean)


@pytest.mark.parametrize("name", ["v_prediction", "epsilon", "sample"])
@pytest.mark.parametrize("level", [49, 499, 949])
def test_the_step_of_diffusers_goes_through_our_estimate(name, level):
    schedule = DiscreteSchedule(zero_terminal_snr=False)
    described = scheduler_of(schedule)
    theirs = described.from_config(described.config, prediction_type=name)
    theirs.set_timesteps(20)
    noisy, output = torch.randn(2, 1, 4, 3, 2, generator=torch.Generator().manual_seed(2))
    step = theirs.step(output, level, noisy, eta=0.0)
    prediction = Prediction.of(name, *schedule.coefficients(torch.tensor([level])))
    estimate = prediction.estimate(output, noisy)
    torch.testing.assert_close(step.pred_original_sample, estimate, atol=1e-5, rtol=1e-4)
    if level == 49:  # the last of 20 steps
        torch.testing.assert_close(step.prev_sample, estimate, atol=1e-5, rtol=1e-4)
