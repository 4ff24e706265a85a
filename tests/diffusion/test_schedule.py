import pytest
import torch

from ulcompress.diffusion import NoiseSchedule


def at_times(*times):
    return torch.tensor(times), torch.randn(len(times), 4, 3, 2), torch.randn(len(times), 4, 3, 2)


def test_energy_is_kept(schedule):
    alpha, sigma = schedule.coefficients(torch.arange(schedule.length))
    assert alpha.shape == sigma.shape == (1000, 1, 1, 1)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha))
    assert (alpha.diff(dim=0) < 0).all(), "the signal falls with time"
    assert alpha[0] > 0.99


@pytest.mark.parametrize("beta_schedule", ["scaled_linear", "squaredcos_cap_v2"])
def test_the_last_step_is_pure_noise(beta_schedule):
    alpha, sigma = NoiseSchedule(beta_schedule=beta_schedule).coefficients(torch.tensor([999]))
    assert (float(alpha), float(sigma)) == (0, 1)
    alpha, _ = NoiseSchedule(beta_schedule=beta_schedule, zero_terminal_snr=False).coefficients(torch.tensor([999]))
    assert float(alpha) > 0


def test_estimate_is_the_inverse_of_target(schedule):
    times, clean, noise = at_times(0, 1, 250, 900, 998)
    estimate = schedule.estimate(schedule.target(clean, noise, times), schedule.noisy(clean, noise, times), times)
    # At little signal the division by alpha magnifies the rounding.
    tolerance = 1e-3 if schedule.scheduler.config.prediction_type == "epsilon" else 1e-5
    torch.testing.assert_close(estimate, clean, atol=tolerance, rtol=tolerance)


def test_targets_are_the_closed_forms():
    times, clean, noise = at_times(400)
    alpha, sigma = (value.double() for value in NoiseSchedule().coefficients(times))
    v = NoiseSchedule().target(clean, noise, times)
    torch.testing.assert_close(v.double(), alpha * noise - sigma * clean)
    of_noise = NoiseSchedule(prediction="epsilon", zero_terminal_snr=False)
    assert torch.equal(of_noise.target(clean, noise, times), noise)
    assert torch.equal(NoiseSchedule(prediction="sample").target(clean, noise, times), clean)


def test_v_at_the_last_step_is_the_negative_of_the_image():
    times, clean, noise = at_times(999)
    assert torch.equal(NoiseSchedule().target(clean, noise, times), -clean)
    assert torch.equal(NoiseSchedule().noisy(clean, noise, times), noise)


@pytest.mark.parametrize("time", [49, 499, 949])
def test_the_ddim_step_goes_through_our_estimate(schedule, time):
    times, noisy, prediction = at_times(time)
    schedule.scheduler.set_timesteps(20)
    step = schedule.scheduler.step(prediction, time, noisy, eta=0.0)
    estimate = schedule.estimate(prediction, noisy, times)
    torch.testing.assert_close(step.pred_original_sample, estimate, atol=1e-5, rtol=1e-4)
    if time == 49:  # the last of 20 steps
        torch.testing.assert_close(step.prev_sample, estimate, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"prediction": "x0"}, "prediction must be one of v_prediction, epsilon, sample, got 'x0'"),
        ({"prediction": "epsilon"}, "set zero_terminal_snr to false"),
        ({"beta_schedule": "cosine"}, "beta_schedule must be one of scaled_linear, .* got 'cosine'"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        NoiseSchedule(**arguments)


def test_training_times_are_a_trailing_grid():
    torch.manual_seed(0)
    times = NoiseSchedule(training_times=50).draw(5000, torch.device("cpu"))
    assert times.unique().tolist() == list(range(19, 1000, 20))
    assert NoiseSchedule().draw(50_000, torch.device("cpu")).unique().tolist() == list(range(1000))


@pytest.mark.parametrize("count", [0, 3, 1001])
def test_training_times_that_are_no_grid_are_refused(count):
    with pytest.raises(ValueError, match=f"training_times must divide 1000, got {count}"):
        NoiseSchedule(training_times=count)


def test_min_snr_weighs_the_error_of_the_image_alike_for_all_predictions(schedule):
    """The weighted error of the prediction is min(SNR, 5) times the error of x_0 that it implies."""
    times, clean, noise = at_times(0, 20, 300, 700, 990)
    noisy, target = schedule.noisy(clean, noise, times), schedule.target(clean, noise, times)
    wrong = target + 0.1 * torch.randn_like(target)
    weighted = schedule.min_snr_weight(times, 5.0) * (wrong - target).square().mean((1, 2, 3))
    error = (schedule.estimate(wrong, noisy, times) - clean).double().square().mean((1, 2, 3))
    alpha, sigma = (value.double().flatten() for value in schedule.coefficients(times))
    expected = (alpha**2 / sigma**2).clamp(max=5) * error
    torch.testing.assert_close(weighted.double(), expected, rtol=2e-2, atol=1e-6)


def test_min_snr_is_finite_at_both_ends(schedule):
    weights = schedule.min_snr_weight(torch.tensor([0, 999]), 5.0)
    assert weights.isfinite().all()
    if schedule.scheduler.config.rescale_betas_zero_snr:
        assert weights[1] == 0


def test_shares_of_the_process_are_times():
    schedule = NoiseSchedule()
    assert [schedule.time_at(share) for share in (1.0, 0.5, 0.3, 0.001)] == [999, 499, 299, 0]


@pytest.mark.parametrize("share", [0.0, -0.5, 1.1, 0.0001, float("nan")])
def test_shares_outside_the_process_are_refused(share):
    with pytest.raises(ValueError, match=f"more than 0 and at most 1, of 1000 times, got {share}"):
        NoiseSchedule().time_at(share)
