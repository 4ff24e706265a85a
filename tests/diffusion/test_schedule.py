import pytest
import torch

from ulcompress.diffusion import NoiseSchedule

KINDS = {
    "v": {},
    "v_cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "v_nonzero": {"zero_terminal_snr": False},
    "epsilon": {"prediction": "epsilon", "zero_terminal_snr": False},
    "sample": {"prediction": "sample"},
}


@pytest.fixture(params=KINDS)
def schedule(request):
    torch.manual_seed(0)
    return NoiseSchedule(**KINDS[request.param])


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


@pytest.mark.parametrize("kind", KINDS)
def test_estimate_is_the_inverse_of_target(kind):
    schedule = NoiseSchedule(**KINDS[kind])
    times, clean, noise = at_times(0, 1, 250, 900, 998)
    estimate = schedule.estimate(schedule.target(clean, noise, times), schedule.noisy(clean, noise, times), times)
    # At little signal the division by alpha magnifies the rounding.
    tolerance = 1e-3 if kind == "epsilon" else 1e-5
    torch.testing.assert_close(estimate, clean, atol=tolerance, rtol=tolerance)


def test_targets_are_the_closed_forms():
    times, clean, noise = at_times(400)
    alpha, sigma = (value.double() for value in NoiseSchedule().coefficients(times))
    v = NoiseSchedule().target(clean, noise, times)
    torch.testing.assert_close(v.double(), alpha * noise - sigma * clean)
    assert torch.equal(NoiseSchedule(**KINDS["epsilon"]).target(clean, noise, times), noise)
    assert torch.equal(NoiseSchedule(**KINDS["sample"]).target(clean, noise, times), clean)


def test_v_at_the_last_step_is_the_negative_of_the_image():
    times, clean, noise = at_times(999)
    assert torch.equal(NoiseSchedule().target(clean, noise, times), -clean)
    assert torch.equal(NoiseSchedule().noisy(clean, noise, times), noise)


@pytest.mark.parametrize("steps", [1, 4, 20])
def test_a_perfect_predictor_samples_the_clean_latent(schedule, steps):
    """The predictor knows clean latent and noise, so every step must land on the line between them."""
    _, clean, noise = at_times(999)
    seen = []

    def predict(noisy, times):
        seen.append(int(times))
        torch.testing.assert_close(noisy, schedule.noisy(clean, noise, times), atol=1e-4, rtol=1e-4)
        return schedule.target(clean, noise, times)

    start = schedule.noisy(clean, noise, torch.tensor([999]))
    sample = schedule.sample(predict, start, steps)
    torch.testing.assert_close(sample, clean, atol=1e-4, rtol=1e-4)
    assert len(seen) == steps
    assert seen[0] == 999
    assert seen == sorted(seen, reverse=True)


@pytest.mark.parametrize("time", [49, 499, 949])
def test_the_ddim_step_goes_through_our_estimate(schedule, time):
    times, noisy, prediction = at_times(time)
    schedule.scheduler.set_timesteps(20)
    step = schedule.scheduler.step(prediction, time, noisy, eta=0.0)
    estimate = schedule.estimate(prediction, noisy, times)
    torch.testing.assert_close(step.pred_original_sample, estimate, atol=1e-5, rtol=1e-4)
    if time == 49:  # the last of 20 steps
        torch.testing.assert_close(step.prev_sample, estimate, atol=1e-5, rtol=1e-4)


def test_sampling_is_per_image():
    schedule = NoiseSchedule()
    _, _, noise = at_times(1, 2, 3)
    together = schedule.sample(lambda x, t: 0.3 * x.tanh(), noise, 4)
    alone = torch.cat([schedule.sample(lambda x, t: 0.3 * x.tanh(), one[None], 4) for one in noise])
    torch.testing.assert_close(together, alone)


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


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_bad_step_counts_are_refused(steps):
    with pytest.raises(ValueError, match=f"steps must be 1 to 1000, got {steps}"):
        NoiseSchedule().sample(lambda x, t: x, torch.zeros(1, 4, 1, 1), steps)


def test_every_number_of_steps_visits_as_many_times():
    schedule = NoiseSchedule()
    for steps in (*range(1, 30), 61, 103, 121, 201, 600, 999, 1000):
        seen = []

        def predict(noisy, times, seen=seen):
            seen.append(int(times[0]))
            return noisy

        schedule.sample(predict, torch.zeros(1, 1, 1, 1), steps)
        assert len(seen) == steps and seen[0] == schedule.length - 1 and min(seen) >= 0
        assert seen == sorted(set(seen), reverse=True)
