import inspect
import math

import pytest
import torch

from ulcompress import diffusion
from ulcompress.diffusion import DDIM, ContinuousSchedule, DiffusersSampler, DiscreteSchedule, DPMSolver, Heun, Sampler
from ulcompress.diffusion.diffusers_sampler import SCHEDULERS, scheduler_of
from ulcompress.testing import check_sampler
from ulcompress.testing.sampler import GaussianData

OURS = {"DDIM": DDIM, "Heun": Heun, "DPMSolver": DPMSolver}
SAMPLERS = OURS | {name: lambda name=name: DiffusersSampler(scheduler=name) for name in SCHEDULERS}
SCHEDULES = ("stable_diffusion", "cosine", "signal_left", "straight", "variance_preserving")
PAIRS = [(name, each) for name in OURS for each in SCHEDULES] + [(name, SCHEDULES[0]) for name in SCHEDULERS]
"""Samplers and schedules on which they work."""


@pytest.fixture(params=SAMPLERS)
def sampler(request):
    torch.manual_seed(0)
    return SAMPLERS[request.param]()


@pytest.fixture(params=OURS)
def ours(request):
    torch.manual_seed(0)
    return SAMPLERS[request.param]()


def calls(sampler, steps):
    return 2 * steps - 1 if isinstance(sampler, Heun) else steps


def squashed(noisy, levels):
    """A network that depends on what it sees."""
    return 0.3 * noisy.tanh()


def test_every_class_is_here():
    exported = (getattr(diffusion, name) for name in diffusion.__all__)
    classes = {c for c in exported if inspect.isclass(c) and issubclass(c, Sampler)}
    assert {c for c in classes if not inspect.isabstract(c)} == {type(make()) for make in SAMPLERS.values()}


@pytest.mark.parametrize("sampler, schedule", PAIRS, indirect=True)
def test_it_keeps_the_contract(sampler, schedule):
    check_sampler(sampler, schedule)


def test_a_path_can_be_followed_piece_by_piece(ours):
    schedule = ContinuousSchedule()
    levels, noisy = schedule.sampling_levels(6), torch.randn(1, 3, 4, 4)
    assert ours.move(schedule, squashed, noisy, levels[:1]) is noisy
    whole, middle = (ours.move(schedule, squashed, noisy, levels[:count]) for count in (6, 3))
    pieces = ours.move(schedule, squashed, middle, levels[2:])
    # The second-order method that looks back has no estimate to look back at where a piece begins.
    torch.testing.assert_close(pieces, whole, **({"atol": 0.05, "rtol": 0.05} if isinstance(ours, DPMSolver) else {}))
    clean = squashed(whole, schedule.at(levels[-1], whole))
    assert torch.equal(ours.sample(schedule, squashed, noisy, 6), clean)


@pytest.mark.parametrize("sampler, schedule", PAIRS, indirect=True)
@pytest.mark.parametrize("steps", [1, 4, 20])
def test_the_network_is_called_once_a_step_or_twice_by_heun(sampler, schedule, steps):
    seen = []

    def denoise(noisy, levels):
        seen.append(float(levels))
        return squashed(noisy, levels)

    sampler.sample(schedule, denoise, torch.randn(1, 4, 3, 2), steps)
    assert len(seen) == calls(sampler, steps)
    assert seen[0] == schedule.highest()


def error(data, sampler, steps):
    return float((data.sample(sampler, steps) - data.solution).abs().max())


def test_solvers_agree_when_steps_are_many(sampler):
    data = GaussianData(DiscreteSchedule(), mean=0.0)
    torch.testing.assert_close(data.sample(sampler, 200), data.solution, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("path", ["straight", "variance_preserving"])
@pytest.mark.parametrize("start", [1.0, 0.6])
def test_twice_the_steps_leave_half_or_a_quarter_of_the_error(ours, path, start):
    """The order of convergence to the closed form of the differential equation's solution."""
    data = GaussianData(ContinuousSchedule(path=path, log_snr_min=-12.0, log_snr_max=12.0), start=start)
    coarse, fine = error(data, ours, 32), error(data, ours, 64)
    order = 1 if isinstance(ours, DDIM) else 2
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)
    assert fine < {1: 0.1, 2: 0.01}[order]


@pytest.mark.parametrize("start", [1.0, 0.4])
def test_one_step_is_the_estimate(ours, schedule, start):
    noisy = torch.randn(2, 4, 3, 2)
    levels = schedule.at(schedule.highest(start), noisy)
    sample = ours.sample(schedule, lambda x, t: 0.3 * x.tanh() * t[:, None, None, None], noisy, 1, start=start)
    assert torch.equal(sample, 0.3 * noisy.tanh() * levels[:, None, None, None])


@pytest.mark.parametrize("schedule", ["stable_diffusion", "straight", "variance_preserving"], indirect=True)
def test_the_step_after_pure_noise_has_nothing_to_extrapolate_from(schedule):
    noise = torch.randn(1, 4, 3, 2)
    for steps, same in ((2, True), (3, True), (4, False)):
        one, other = (each.sample(schedule, squashed, noise, steps) for each in (DDIM(), DPMSolver()))
        assert torch.equal(one, other) == same


def test_ddim_is_diffusers_where_that_is_right():
    """With 20 steps, which divide 1000."""
    schedule, noise = DiscreteSchedule(), torch.randn(1, 4, 3, 2)
    expected = noise
    described = scheduler_of(schedule)
    theirs = described.from_config(described.config, timestep_spacing="trailing", prediction_type="sample")
    theirs.set_timesteps(20)
    for time in theirs.timesteps:
        expected = theirs.step(squashed(expected, time), int(time), expected, eta=0.0).prev_sample
    sample = DDIM().sample(schedule, squashed, noise, 20)
    torch.testing.assert_close(sample, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_dpm_solver_is_diffusers_where_that_is_right(steps):
    """From a level that has a signal, where diffusers need not leave pure noise out."""
    schedule, noise = DiscreteSchedule(zero_terminal_snr=False), torch.randn(1, 4, 3, 2)
    sample = DPMSolver().sample(schedule, squashed, noise, steps)
    torch.testing.assert_close(
        sample, DiffusersSampler().sample(schedule, squashed, noise, steps), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("start, first", [(0.5, 499), (0.002, 1), (0.001, 0), (1.0, 999)])
def test_sampling_begins_at_a_later_start(ours, start, first):
    schedule = DiscreteSchedule()
    clean, noise = torch.randn(2, 2, 4, 3, 2)
    seen = []

    def denoise(noisy, levels):
        seen.append(int(levels[0]))
        return clean

    steps = min(4, first + 1)
    noisy = schedule.noisy(clean, noise, schedule.at(first, noise))
    sample = ours.sample(schedule, denoise, noisy, steps, start=start)
    torch.testing.assert_close(sample, clean, atol=2e-3, rtol=2e-3)
    assert seen[0] == first and len(seen) == calls(ours, steps)
    assert sorted(set(seen), reverse=True) == schedule.sampling_levels(steps, start)


def test_steps_must_fit_behind_the_start(ours):
    with pytest.raises(ValueError, match="steps must be 1 to 2, got 3"):
        ours.sample(DiscreteSchedule(), squashed, torch.zeros(1, 4, 1, 1), 3, start=0.002)


def test_the_solvers_of_diffusers_begin_at_pure_noise_of_stable_diffusion_only():
    noise = torch.zeros(1, 4, 1, 1)
    with pytest.raises(ValueError, match=r"samples from pure noise only, got start=0\.5; use DDIM, or a start of 1"):
        DiffusersSampler().sample(DiscreteSchedule(), squashed, noise, 2, start=0.5)
    with pytest.raises(ValueError, match="needs a DiscreteSchedule, got ContinuousSchedule; use DDIM"):
        DiffusersSampler().sample(ContinuousSchedule(), squashed, noise, 2)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_bad_step_counts_are_refused(sampler, steps):
    with pytest.raises(ValueError, match=f"steps must be 1 to 1000, got {steps}"):
        sampler.sample(DiscreteSchedule(), squashed, torch.zeros(1, 4, 1, 1), steps)


def test_unknown_schedulers_are_refused():
    with pytest.raises(ValueError, match=r"scheduler must be one of .*, got 'DDPMScheduler'"):
        DiffusersSampler(scheduler="DDPMScheduler")


def test_leading_levels_take_noise_for_a_lower_level_and_leave_that_of_the_first():
    schedule, seen = DiscreteSchedule(zero_terminal_snr=False), []
    sampler, noise = DDIM(spacing="leading"), torch.randn(2, 4, 3, 2)

    def denoise(noisy, levels):
        seen.append((int(levels[0]), noisy))
        return torch.zeros_like(noisy)

    noisy = schedule.coefficients(torch.tensor([999]))[1] * noise
    sample = sampler.sample(schedule, denoise, noisy, 5)
    assert [level for level, _ in seen] == [801, 601, 401, 201, 1]
    torch.testing.assert_close(seen[0][1], noise)
    first, last = (schedule.coefficients(torch.tensor([level]))[1] for level in (801, 0))
    torch.testing.assert_close(sample, noise * last / first)


def test_leading_levels_are_refused_where_they_mean_nothing():
    sampler = DDIM(spacing="leading")
    for schedule in (DiscreteSchedule(), ContinuousSchedule()):
        with pytest.raises(ValueError, match="give a DiscreteSchedule with zero_terminal_snr: false"):
            sampler.check(schedule, 1.0)
    stock = DiscreteSchedule(zero_terminal_snr=False)
    with pytest.raises(ValueError, match="samples from pure noise only"):
        sampler.check(stock, 0.5)
    for steps in (0, 1000):
        with pytest.raises(ValueError, match=f"steps must be 1 to 999 with leading levels, got {steps}"):
            sampler.sample(stock, squashed, torch.zeros(1, 4, 1, 1), steps)
    with pytest.raises(ValueError, match="spacing must be one of trailing, leading, got 'linspace'"):
        DDIM(spacing="linspace")
