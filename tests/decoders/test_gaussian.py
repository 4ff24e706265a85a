"""The decoder on Gaussian data, of which everything is known in closed form.

A network that returns the exact mean of what it shall predict must lead to samples of the right mean and covariance,
and no other network may have a lower loss.
"""

import pytest
import torch

from ulcompress.decoders import DiffusionDecoder
from ulcompress.denoisers import Denoiser
from ulcompress.diffusion import (
    DDIM,
    BaseEstimate,
    ContinuousSchedule,
    DiffusersSampler,
    DiscreteSchedule,
    DPMSolver,
    Heun,
    LinearEstimate,
    LocalDeviation,
    Objective,
    Whitening,
)
from ulcompress.diffusion.diffusers_sampler import SCHEDULERS
from ulcompress.diffusion.objective import DIFFUSED
from ulcompress.diffusion.prediction import PREDICTIONS
from ulcompress.records import Condition, Sampling

WIDE = {"log_snr_min": -12.0, "log_snr_max": 9.0}
SCHEDULES = {
    "stable_diffusion": lambda: DiscreteSchedule(),
    "cosine": lambda: DiscreteSchedule(beta_schedule="squaredcos_cap_v2"),
    "signal_left": lambda: DiscreteSchedule(zero_terminal_snr=False),
    "straight": lambda: ContinuousSchedule(**WIDE),
    "variance_preserving": lambda: ContinuousSchedule(path="variance_preserving", **WIDE),
}
SAMPLERS = {"DDIM": DDIM, "Heun": Heun, "DPMSolver": DPMSolver}
SAMPLERS |= {name: lambda name=name: DiffusersSampler(scheduler=name) for name in SCHEDULERS}
ESTIMATES = {
    "linear": lambda: LinearEstimate(spatial_channels=3, channels=3),
    "base, which is not added": lambda: BaseEstimate(added=False),
    "nothing": lambda: None,
}
OBJECTIVES = [
    (estimate, diffused, prediction, schedule)
    for estimate in ESTIMATES
    for diffused in (("target",) if estimate == "nothing" else DIFFUSED)
    for prediction in PREDICTIONS
    for schedule in SCHEDULES
    if prediction != "epsilon" or schedule == "signal_left"
]
WHITENED = [case for case in OBJECTIVES if case[3] in ("signal_left", "straight")]
SAMPLED = [
    (sampler, schedule)
    for sampler in SAMPLERS
    for schedule in SCHEDULES
    if sampler not in SCHEDULERS or schedule not in ("straight", "variance_preserving")
]
WEIGHTINGS = [
    (prediction, schedule, {name: value})
    for _, _, prediction, schedule in OBJECTIVES[:16]
    for name, values in {"error": PREDICTIONS, "min_snr": (1.0, 5.0)}.items()
    for value in values
    if value != "epsilon" or schedule == "signal_left"
]
MIX = torch.tensor([[1.2, 0.0, 0.0], [0.5, 0.7, 0.0], [-0.4, 0.3, 0.3]])
COVARIANCE = MIX @ MIX.T
"""Of the target about its mean, over the three channels."""


class ExactMean(Denoiser):
    """Returns `gain` times the mean of what a network shall predict, given x_t and the mean of the target."""

    channels = 3

    def __init__(self, objective, *, field, added):
        super().__init__()
        self.objective, self.field, self.added, self.gain = objective, field, added, 1.0
        self.map = torch.eye(3) if objective.whitening is None else objective.whitening.matrix
        self.requires = frozenset({field})
        self.condition_channels = {field: 3}

    def forward(self, noisy, times, condition, context):
        schedule = self.objective.schedule
        alpha, sigma = schedule.coefficients(times if isinstance(schedule, DiscreteSchedule) else times / 999)
        of_target = condition[self.field]
        known, mean = self.objective.known(of_target, noisy), self.objective.to_diffused(of_target, of_target)
        of_clean = self.map @ COVARIANCE @ self.map.T
        covariance = alpha.square()[..., 0] * of_clean + sigma.square()[..., 0] * torch.eye(3)  # of x_t
        beyond = noisy - alpha * mean
        solved = torch.linalg.solve(covariance, beyond.flatten(2)).unflatten(2, noisy.shape[2:])
        clean = mean + alpha * torch.einsum("ij,bjhw->bihw", of_clean, solved)
        noise = sigma * solved
        shares = (noisy - alpha * known) / (alpha**2 + sigma**2)
        whole, of_estimate = {
            "v_prediction": (alpha * noise - sigma * clean, -sigma * known),
            "epsilon": (noise, sigma * shares),
            "sample": (clean, known),
            "velocity": (noise - clean, (sigma - alpha) * shares - known),
        }[self.objective.prediction]
        return self.gain * (whole - of_estimate if self.added else whole)


def decoder_of(estimate, diffused, prediction, schedule, *, sampler=None, covariance=None, **options):
    whitening = None if covariance is None else Whitening(channels=3, covariance=covariance)
    objective = Objective(
        schedule=SCHEDULES[schedule](), diffused=diffused, whitening=whitening, prediction=prediction, **options
    )
    known = ESTIMATES[estimate]()
    denoiser = ExactMean(
        objective,
        field="spatial" if known is None else "estimate",
        added=known is not None and known.added,
    )
    decoder = DiffusionDecoder(denoiser=denoiser, objective=objective, estimate=known, sampler=sampler)
    if whitening is not None:
        condition, mean = condition_and_mean(decoder, 16, 16)
        torch.manual_seed(0)
        decoder.prepare([(mean + mixed(torch.randn_like(mean)), condition)])
        denoiser.map = whitening.matrix.clone()
    return decoder


def mixed(values):
    return torch.einsum("ij,bjhw->bihw", MIX, values)


def condition_and_mean(decoder, count, side):
    """Return what the decoder knows of its targets, and their mean, (count, 3, side, side)."""
    generator = torch.Generator().manual_seed(0)
    if decoder.estimate is None:
        mean = torch.randn(count, 3, side, side, generator=generator)
        return Condition(spatial=mean), mean
    field, stride = ("base", 1) if "base" in decoder.requires else ("spatial", 2)
    condition = Condition(**{field: torch.rand(count, 3, side // stride, side // stride, generator=generator)})
    return condition, decoder.estimate(condition)


def check_moments(values):
    """Compare with a mean of zero and the covariance, by four standard errors of as many samples; values (3, n)."""
    count, variances = values.shape[1], COVARIANCE.diagonal()
    assert (values.mean(1).abs() < 4 * (variances / count).sqrt()).all()
    products = variances[:, None] * variances + COVARIANCE.square()  # the variance of a product of two channels
    assert ((values.cov() - COVARIANCE).abs() < 4 * (products / count).sqrt()).all()


def check_samples(decoder, steps, side=64):
    condition, mean = condition_and_mean(decoder, 1, side)
    sample = decoder.sample(condition, (side, side), Sampling(seed=0, steps=steps))
    check_moments((sample - mean)[0].flatten(1))


@torch.no_grad()
@pytest.mark.parametrize("estimate, diffused, prediction, schedule", OBJECTIVES)
def test_samples_have_the_mean_and_the_covariance_of_the_target(estimate, diffused, prediction, schedule, one_thread):
    check_samples(decoder_of(estimate, diffused, prediction, schedule, sampler=DPMSolver()), 40)


@torch.no_grad()
@pytest.mark.parametrize("sampler, schedule", SAMPLED)
def test_every_sampler_leads_to_the_mean_and_the_covariance(sampler, schedule, one_thread):
    check_samples(decoder_of("linear", "residual", "v_prediction", schedule, sampler=SAMPLERS[sampler]()), 100)


@torch.no_grad()
@pytest.mark.parametrize("estimate", ["linear", "base, which is not added"])
@pytest.mark.parametrize("prediction", ["sample", "velocity"])
def test_samples_deviate_where_the_estimate_tells(estimate, prediction, one_thread):
    decoder = decoder_of(estimate, "residual", prediction, "straight", sampler=DPMSolver())
    local = decoder.objective.deviation = LocalDeviation(windows=[3])
    local.load_state_dict(
        {"weights": torch.tensor([0.5, 1.6]), "range": torch.tensor([-9.0, 9.0]), "prepared": torch.tensor(True)}
    )
    condition, mean = condition_and_mean(decoder, 1, 64)
    deviation = local(mean)
    assert deviation.max() > 2 * deviation.min()
    sample = decoder.sample(condition, (64, 64), Sampling(seed=0, steps=40))
    check_moments(((sample - mean) / deviation)[0].flatten(1))


@torch.no_grad()
@pytest.mark.parametrize("scale", [0.0, 0.5])
def test_the_noise_scale_is_that_of_the_samples_deviation(scale, one_thread):
    decoder = decoder_of("linear", "residual", "velocity", "straight", sampler=DPMSolver())
    condition, mean = condition_and_mean(decoder, 1, 16)
    whole, scaled = (
        decoder.sample(condition, (16, 16), Sampling(noise_scale=each, steps=5)) - mean for each in (1.0, scale)
    )
    torch.testing.assert_close(scaled, scale * whole, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_sampler_and_start_can_be_chosen_in_use(one_thread):
    case = ("linear", "residual", "velocity", "straight")
    usual, other = decoder_of(*case), decoder_of(*case, sampler=Heun())
    condition, _ = condition_and_mean(usual, 1, 16)
    expected = other.sample(condition, (16, 16), Sampling(steps=4))
    assert torch.equal(usual.sample(condition, (16, 16), Sampling(steps=4, sampler="heun")), expected)
    late = DiffusionDecoder(denoiser=usual.denoiser, objective=usual.objective, estimate=usual.estimate, start=0.5)
    expected = late.sample(condition, (16, 16), Sampling(steps=4))
    assert torch.equal(usual.sample(condition, (16, 16), Sampling(steps=4, start=0.5)), expected)
    with pytest.raises(ValueError, match=r"the decoder was trained for a start of 0\.5, got 0\.6"):
        late.sample(condition, (16, 16), Sampling(start=0.6))


def check_gain(*objective, **weighting):
    """The loss is a parabola of the gain; its lowest point is at 1, but for the error of finitely many samples."""
    decoder = decoder_of(*objective, **weighting)
    condition, mean = condition_and_mean(decoder, 128, 4)
    best = []
    for seed in range(1, 6):
        losses = []
        for gain in (0.5, 1.0, 1.5):
            decoder.denoiser.gain = gain
            torch.manual_seed(seed)
            target = mean + mixed(torch.randn_like(mean))
            losses.append(float(decoder.loss(target, condition).losses["diffusion"]))
        below, at, above = losses
        best.append(1 + 0.25 * (below - above) / (below - 2 * at + above))
    deviation, middle = torch.std_mean(torch.tensor(best))
    error = float(deviation) / len(best) ** 0.5
    assert error < 0.03 and abs(float(middle) - 1) < 4 * error


@torch.no_grad()
@pytest.mark.parametrize("estimate, diffused, prediction, schedule", OBJECTIVES)
def test_no_multiple_of_the_exact_mean_has_a_lower_loss(estimate, diffused, prediction, schedule, one_thread):
    check_gain(estimate, diffused, prediction, schedule)


@torch.no_grad()
@pytest.mark.parametrize("estimate, diffused, prediction, schedule", WHITENED)
def test_samples_of_what_is_white_have_them_too(estimate, diffused, prediction, schedule, one_thread):
    check_samples(decoder_of(estimate, diffused, prediction, schedule, sampler=DPMSolver(), covariance="full"), 40)


@torch.no_grad()
@pytest.mark.parametrize("estimate, diffused, prediction, schedule", WHITENED)
def test_nor_where_each_channel_is_white(estimate, diffused, prediction, schedule, one_thread):
    """With the full covariance the mean of a white residual is the baseline's own, and any gain is as good."""
    check_gain(estimate, diffused, prediction, schedule, covariance="channel")


@torch.no_grad()
@pytest.mark.parametrize("prediction, schedule, weighting", WEIGHTINGS)
def test_nor_under_any_weighting(prediction, schedule, weighting, one_thread):
    check_gain("linear", "target", prediction, schedule, **weighting)
