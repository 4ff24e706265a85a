import inspect

import pytest
import torch

from ulcompress import diffusion
from ulcompress.diffusion import DDIM, DiffusersSampler, NoiseSchedule, Sampler
from ulcompress.diffusion.sampler import SCHEDULERS

SAMPLERS = {"DDIM": DDIM} | {name: lambda name=name: DiffusersSampler(scheduler=name) for name in SCHEDULERS}


@pytest.fixture(params=SAMPLERS)
def sampler(request):
    torch.manual_seed(0)
    return SAMPLERS[request.param]()


def test_every_class_is_here():
    classes = {c for c in vars(diffusion).values() if inspect.isclass(c) and issubclass(c, Sampler)}
    assert {c for c in classes if not inspect.isabstract(c)} == {type(make()) for make in SAMPLERS.values()}


@pytest.mark.parametrize("steps", [1, 4, 20])
def test_a_perfect_predictor_samples_the_clean_latent(sampler, schedule, steps):
    """The predictor knows the clean latent, so every solver must end at it."""
    clean, noise = torch.randn(2, 1, 4, 3, 2)
    seen = []

    def predict(noisy, times):
        seen.append(int(times))
        alpha, sigma = schedule.coefficients(times)
        return schedule.target(clean, (noisy - alpha * clean) / sigma, times)

    sample = sampler.sample(schedule, predict, schedule.noisy(clean, noise, torch.tensor([999])), steps)
    torch.testing.assert_close(sample, clean, atol=2e-3, rtol=2e-3)
    assert len(seen) == steps
    assert seen[0] == 999
    assert seen == sorted(seen, reverse=True)


def test_solvers_agree_when_steps_are_many(sampler):
    """On data of which the best prediction is known: Gaussian with variance 1/4."""
    schedule, noise = NoiseSchedule(), torch.randn(1, 4, 8, 8)

    def predict(noisy, times):
        alpha, sigma = schedule.coefficients(times)
        clean = noisy * alpha * 0.25 / (alpha**2 * 0.25 + sigma**2)
        return schedule.target(clean, (noisy - alpha * clean) / sigma, times)

    sample = sampler.sample(schedule, predict, noise, 200)
    torch.testing.assert_close(sample, 0.5 * noise, atol=0.02, rtol=0.02)


def test_sampling_is_per_image(sampler):
    schedule, noise = NoiseSchedule(), torch.randn(3, 4, 3, 2)
    together = sampler.sample(schedule, lambda x, t: 0.3 * x.tanh(), noise, 4)
    alone = torch.cat([sampler.sample(schedule, lambda x, t: 0.3 * x.tanh(), one[None], 4) for one in noise])
    torch.testing.assert_close(together, alone)


def test_ddim_is_diffusers_where_that_is_right():
    """With 20 steps, which divide 1000; `predict` depends on what it is given."""
    schedule, noise = NoiseSchedule(), torch.randn(1, 4, 3, 2)
    expected = noise
    theirs = type(schedule.scheduler).from_config(schedule.scheduler.config, timestep_spacing="trailing")
    theirs.set_timesteps(20)
    for time in theirs.timesteps:
        expected = theirs.step(0.3 * expected.tanh(), int(time), expected, eta=0.0).prev_sample
    sample = DDIM().sample(schedule, lambda x, t: 0.3 * x.tanh(), noise, 20)
    torch.testing.assert_close(sample, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("start, first", [(0.5, 499), (0.002, 1), (0.001, 0), (1.0, 999)])
def test_ddim_begins_at_a_later_start(schedule, start, first):
    clean, noise = torch.randn(2, 2, 4, 3, 2)
    times = torch.full((2,), schedule.time_at(start))
    seen = []

    def predict(noisy, times):
        seen.append(int(times[0]))
        alpha, sigma = schedule.coefficients(times)
        return schedule.target(clean, (noisy - alpha * clean) / sigma, times)

    steps = min(4, first + 1)
    sample = DDIM().sample(schedule, predict, schedule.noisy(clean, noise, times), steps, start=start)
    torch.testing.assert_close(sample, clean, atol=2e-3, rtol=2e-3)
    assert seen[0] == first and len(seen) == steps
    assert seen == sorted(set(seen), reverse=True)


def test_steps_must_fit_behind_the_start():
    with pytest.raises(ValueError, match="steps must be 1 to 2, got 3"):
        DDIM().sample(NoiseSchedule(), lambda x, t: x, torch.zeros(1, 4, 1, 1), 3, start=0.002)


def test_the_solvers_of_diffusers_begin_at_pure_noise_only():
    with pytest.raises(ValueError, match=r"samples from pure noise only, got start=0\.5; use DDIM"):
        DiffusersSampler().sample(NoiseSchedule(), lambda x, t: x, torch.zeros(1, 4, 1, 1), 2, start=0.5)


def test_samples_keep_the_gradient_of_the_network(sampler):
    weight = torch.tensor(0.3, requires_grad=True)
    sample = sampler.sample(NoiseSchedule(), lambda x, t: weight * x.tanh(), torch.randn(1, 4, 3, 2), 4)
    sample.square().sum().backward()
    assert weight.grad.isfinite() and weight.grad != 0


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_bad_step_counts_are_refused(sampler, steps):
    with pytest.raises(ValueError, match=f"steps must be 1 to 1000, got {steps}"):
        sampler.sample(NoiseSchedule(), lambda x, t: x, torch.zeros(1, 4, 1, 1), steps)


def test_unknown_schedulers_are_refused():
    with pytest.raises(ValueError, match=r"scheduler must be one of .*, got 'DDPMScheduler'"):
        DiffusersSampler(scheduler="DDPMScheduler")


def test_every_number_of_steps_visits_as_many_times():
    schedule = NoiseSchedule()
    for steps in (*range(1, 30), 61, 103, 121, 201, 600, 999, 1000):
        seen = []

        def predict(noisy, times, seen=seen):
            seen.append(int(times[0]))
            return noisy

        DDIM().sample(schedule, predict, torch.zeros(1, 1, 1, 1), steps)
        assert len(seen) == steps and seen[0] == schedule.length - 1 and min(seen) >= 0
        assert seen == sorted(set(seen), reverse=True)
