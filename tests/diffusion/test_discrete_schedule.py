import pytest
import torch

from ulcompress.diffusion import DiscreteSchedule
from ulcompress.diffusion.diffusers_sampler import scheduler_of
from ulcompress.diffusion.discrete_schedule import BETA_SCHEDULES

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "options", [{}, {"beta_schedule": "squaredcos_cap_v2"}, {"beta_schedule": "linear"}, {"zero_terminal_snr": False}]
)
def test_energy_is_kept(options):
    schedule = DiscreteSchedule(**options)
    alpha, sigma = schedule.coefficients(torch.arange(schedule.length))
    assert alpha.shape == sigma.shape == (1000, 1, 1, 1)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha))
    assert (alpha.diff(dim=0) < 0).all(), "the signal falls with the level"
    assert alpha[0] > 0.99


@pytest.mark.parametrize("zero_terminal_snr", [True, False])
@pytest.mark.parametrize("beta_schedule", BETA_SCHEDULES)
def test_the_signal_is_that_of_diffusers_to_the_bit(beta_schedule, zero_terminal_snr):
    schedule = DiscreteSchedule(beta_schedule=beta_schedule, zero_terminal_snr=zero_terminal_snr)
    alpha, _ = schedule.coefficients(torch.arange(schedule.length))
    assert alpha.flatten().equal(scheduler_of(schedule).alphas_cumprod.sqrt())


@pytest.mark.parametrize("beta_schedule", ["scaled_linear", "squaredcos_cap_v2"])
def test_the_last_level_is_pure_noise(beta_schedule):
    alpha, sigma = DiscreteSchedule(beta_schedule=beta_schedule).coefficients(torch.tensor([999]))
    assert (float(alpha), float(sigma)) == (0, 1)
    alpha, _ = DiscreteSchedule(beta_schedule=beta_schedule, zero_terminal_snr=False).coefficients(torch.tensor([999]))
    assert float(alpha) > 0


def test_levels_are_the_times_that_denoisers_see():
    levels = torch.tensor([0, 20, 999])
    assert torch.equal(DiscreteSchedule().times(levels), levels)


def test_training_levels_are_a_trailing_grid():
    torch.manual_seed(0)
    levels = DiscreteSchedule(training_levels=50).draw(5000, CPU)
    assert levels.unique().tolist() == list(range(19, 1000, 20))
    assert DiscreteSchedule().draw(50_000, CPU).unique().tolist() == list(range(1000))


@pytest.mark.parametrize(
    "start, training_levels, expected",
    [(1.0, 4, [249, 499, 749, 999]), (0.5, 4, [124, 249, 374, 499]), (0.01, 1000, list(range(10)))],
)
def test_a_late_start_has_as_many_training_levels_below_it(start, training_levels, expected):
    levels = DiscreteSchedule(training_levels=training_levels).draw(2000, CPU, start)
    assert levels.unique().tolist() == expected


@pytest.mark.parametrize("count", [0, 3, 1001])
def test_training_levels_that_are_no_grid_are_refused(count):
    with pytest.raises(ValueError, match=f"training_levels must divide 1000, got {count}"):
        DiscreteSchedule(training_levels=count)


def test_an_unknown_table_is_refused():
    with pytest.raises(ValueError, match=r"beta_schedule must be one of scaled_linear, .* got 'cosine'"):
        DiscreteSchedule(beta_schedule="cosine")


def test_shares_of_the_process_are_levels():
    assert [DiscreteSchedule().highest(share) for share in (1.0, 0.5, 0.3, 0.001)] == [999, 499, 299, 0]
    with pytest.raises(ValueError, match=r"more than 0 and at most 1, of 1000 levels, got 0\.0001"):
        DiscreteSchedule().highest(0.0001)


def test_every_number_of_steps_has_as_many_levels():
    for steps in (*range(1, 30), 61, 103, 121, 201, 600, 999, 1000):
        levels = DiscreteSchedule().sampling_levels(steps)
        assert len(levels) == len(set(levels)) == steps
        assert levels[0] == 999 and min(levels) >= 0
    assert DiscreteSchedule().sampling_levels(4) == [999, 749, 499, 249]
    assert DiscreteSchedule().sampling_levels(2, start=0.5) == [499, 249]


def test_steps_must_fit_behind_the_start():
    with pytest.raises(ValueError, match="steps must be 1 to 2, got 3"):
        DiscreteSchedule().sampling_levels(3, start=0.002)
    with pytest.raises(ValueError, match="steps must be 1 to 1000, got 1001"):
        DiscreteSchedule().sampling_levels(1001)
