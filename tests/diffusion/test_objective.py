import pytest
import torch

from ulcompress.diffusion import BaseEstimate, ContinuousSchedule, DiscreteSchedule, Objective
from ulcompress.diffusion.continuous_schedule import LOWEST
from ulcompress.diffusion.objective import DIFFUSED
from ulcompress.diffusion.prediction import PREDICTIONS, Prediction

SCHEDULES = ("stable_diffusion", "cosine", "signal_left", "straight", "variance_preserving")
CASES = [
    (schedule, prediction)
    for schedule in SCHEDULES
    for prediction in PREDICTIONS
    if prediction != "epsilon" or schedule == "signal_left"
]
"""Epsilon does not determine x_0 at pure noise."""
PAIRS = [(schedule, one, other) for schedule, one in CASES for other in PREDICTIONS if (schedule, other) in CASES]
WEIGHTINGS = [(schedule, one, {"error": other}) for schedule, one, other in PAIRS]
WEIGHTINGS += [(*case, weighting) for case in CASES for weighting in ({}, {"min_snr": 5.0})]


def drawn(schedule, levels):
    torch.manual_seed(0)
    clean, noise, known = torch.randn(3, len(levels), 3, 4, 4)
    return clean, noise, schedule.noisy(clean, noise, levels), known


def squared(value):
    return value.square().mean((1, 2, 3))


@pytest.mark.parametrize("schedule, prediction", CASES, indirect=["schedule"])
@pytest.mark.parametrize("added", [True, False])
def test_the_estimate_is_the_inverse_of_the_target(schedule, levels_of, prediction, added):
    """A network that makes no error returns the clean sample, whether its output is added to an estimate or not."""
    objective, levels = Objective(schedule=schedule, prediction=prediction), levels_of(schedule)
    clean, noise, noisy, known = drawn(schedule, levels)
    algebra = Prediction.of(prediction, *schedule.coefficients(levels))
    output = algebra.target(clean, noise) - (algebra.baseline(known, noisy) if added else 0)
    estimate = objective.clean(output, noisy, levels, known if added else None)
    # At little signal the division by alpha magnifies the rounding.
    tolerance = 1e-3 if prediction == "epsilon" else 1e-4
    torch.testing.assert_close(estimate, clean, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("schedule, prediction, error", PAIRS, indirect=["schedule"])
def test_the_weighted_error_is_that_of_the_prediction_it_names(schedule, levels_of, prediction, error):
    objective, levels = Objective(schedule=schedule, prediction=prediction, error=error), levels_of(schedule)
    clean, noise, noisy, _ = drawn(schedule, levels)
    alpha, sigma = schedule.coefficients(levels)
    output = Prediction.of(prediction, alpha, sigma).target(clean, noise) + 0.01 * torch.randn_like(clean)
    weighted = objective.weights(levels) * squared(
        output - Prediction.of(prediction, alpha, sigma).target(clean, noise)
    )
    implied = objective.clean(output, noisy, levels, None).double()
    other = Prediction.of(error, alpha.double(), sigma.double())
    implied = other.target(implied, (noisy - alpha * implied) / sigma)
    torch.testing.assert_close(weighted.double(), squared(implied - other.target(clean, noise)), rtol=2e-2, atol=1e-7)


@pytest.mark.parametrize("schedule, prediction", CASES, indirect=["schedule"])
@pytest.mark.parametrize("limit", [1.0, 5.0])
def test_min_snr_weighs_the_error_of_the_clean_sample_alike_for_all_predictions(schedule, levels_of, prediction, limit):
    """The weighted error of the prediction is min(SNR, limit) times the error of x_0 that it implies."""
    objective, levels = Objective(schedule=schedule, prediction=prediction, min_snr=limit), levels_of(schedule)
    clean, noise, noisy, _ = drawn(schedule, levels)
    alpha, sigma = schedule.coefficients(levels)
    target = Prediction.of(prediction, alpha, sigma).target(clean, noise)
    output = target + 0.1 * torch.randn_like(target)
    weighted = objective.weights(levels) * squared(output - target)
    error = squared((objective.clean(output, noisy, levels, None) - clean).double())
    expected = (alpha.double() ** 2 / sigma.double() ** 2).flatten().clamp(max=limit) * error
    torch.testing.assert_close(weighted.double(), expected, rtol=2e-2, atol=1e-6)


@pytest.mark.parametrize("schedule, prediction, weighting", WEIGHTINGS, indirect=["schedule"])
def test_weights_and_estimates_are_finite_at_both_ends(schedule, prediction, weighting):
    objective = Objective(schedule=schedule, prediction=prediction, **weighting)
    lowest = LOWEST if isinstance(schedule, ContinuousSchedule) else 0
    levels = torch.tensor([lowest, schedule.highest()])
    weights = objective.weights(levels)
    assert weights.isfinite().all() and (weights >= 0).all() and weights[0] > 0
    assert (weights[1] == 0) == ("min_snr" in weighting and schedule.pure_noise)
    _, _, noisy, known = drawn(schedule, levels)
    for estimate in (known, None):
        assert objective.clean(torch.randn_like(noisy), noisy, levels, estimate).isfinite().all()


def zero(noisy, levels, rows):
    return torch.zeros_like(noisy)


def loss_of(objective, clean, network=zero, **changes):
    options = {"begin": torch.zeros_like(clean), "known": None, "start": 1.0, "size": tuple(clean.shape[-2:])}
    return objective.loss(clean, network, **options | changes)


@pytest.mark.parametrize("weighting", [{}, {"min_snr": 5.0}, {"error": "sample"}])
def test_the_loss_is_the_weighted_error_at_the_levels_that_the_network_sees(schedule, weighting):
    objective, clean = Objective(schedule=schedule, **weighting), torch.randn(7, 3, 4, 4)
    seen = []

    def network(noisy, levels, rows):
        seen.append((noisy, levels, rows))
        return 0.1 * noisy

    denoised = loss_of(objective, clean, network)
    ((noisy, levels, rows),) = seen
    assert torch.equal(rows, torch.arange(7))
    alpha, sigma = schedule.coefficients(levels)
    target = alpha * (noisy - alpha * clean) / sigma - sigma * clean
    expected = (objective.weights(levels) * squared(0.1 * noisy - target)).mean()
    torch.testing.assert_close(denoised.losses["diffusion"], expected, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(denoised.estimate, objective.clean(0.1 * noisy, noisy, levels, None))


@pytest.mark.parametrize("prediction", ["v_prediction", "sample", "velocity"])
def test_what_an_estimate_explains_is_no_loss_at_pure_noise(prediction):
    for schedule in (DiscreteSchedule(), ContinuousSchedule()):
        objective = Objective(schedule=schedule, prediction=prediction, terminal_share=1.0)
        clean = torch.randn(4, 3, 4, 4)
        assert loss_of(objective, clean, known=clean).losses["diffusion"] < 1e-10
        assert loss_of(objective, clean, known=clean + 1).losses["diffusion"] == pytest.approx(1, rel=1e-4)


def test_the_terminal_share_is_at_the_start(schedule):
    seen = []

    def network(noisy, levels, rows):
        seen.extend(levels.tolist())
        return torch.zeros_like(noisy)

    start, clean = 0.5, torch.zeros(2000, 1, 1, 1)
    first = schedule.highest(start)
    loss_of(Objective(schedule=schedule, terminal_share=0.25), clean, network, start=start)
    assert 400 < seen.count(first) < 600 and max(seen) <= first


def test_positions_behind_the_size_do_not_count():
    objective, clean = Objective(prediction="sample"), torch.randn(2, 3, 4, 6)
    seen = loss_of(objective, clean, size=(3, 5))
    torch.testing.assert_close(seen.losses["diffusion"], clean[..., :3, :5].square().mean())
    assert seen.estimate.shape == clean.shape


@pytest.mark.parametrize("diffused", DIFFUSED)
def test_what_is_diffused_comes_back(diffused):
    objective, (target, estimate) = Objective(diffused=diffused), torch.randn(2, 1, 3, 4, 4)
    clean = objective.to_diffused(target, estimate)
    torch.testing.assert_close(clean, target - estimate if diffused == "residual" else target)
    torch.testing.assert_close(objective.to_target(clean, estimate), target)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"diffused": "noise"}, "diffused must be one of target, residual, got 'noise'"),
        ({"prediction": "x0"}, "prediction must be one of v_prediction, epsilon, sample, velocity, got 'x0'"),
        ({"error": "x0"}, "error must be one of v_prediction, epsilon, sample, velocity, got 'x0'"),
        ({"prediction": "epsilon"}, "at pure noise; .* set the schedule's zero_terminal_snr to false"),
        ({"error": "epsilon"}, "epsilon does not determine x_0 at pure noise"),
        ({"min_snr": 5.0, "error": "sample"}, "leave min_snr or error out"),
        ({"min_snr": 0.0}, "min_snr must be above 0, got 0.0"),
        ({"draws": 0}, "draws must be at least 1, got 0"),
        ({"terminal_share": 7.0}, "terminal_share is a share of the training samples, 0 to 1, got 7.0"),
        ({"scheduled_sampling": -1.0}, "scheduled_sampling is a share of the training samples, 0 to 1, got -1.0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Objective(**options)


def test_what_does_not_fit_the_decoder_is_refused():
    with pytest.raises(ValueError, match="the residual to an estimate is diffused, but there is none"):
        Objective(diffused="residual").check(None, 1.0, 3)
    Objective(diffused="residual").check(BaseEstimate(added=False), 1.0, 3)
    clipped = {"min_snr": 5.0, "terminal_share": 0.1}
    with pytest.raises(ValueError, match="terminal_share to 0, min_snr to null, or start to less than 1"):
        Objective(**clipped).check(None, 1.0, 3)
    Objective(**clipped).check(None, 0.5, 3)
    Objective(**clipped, schedule=DiscreteSchedule(zero_terminal_snr=False)).check(None, 1.0, 3)
