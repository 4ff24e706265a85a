"""Distillation on Gaussian data, where the path of an exact teacher is a linear map that a student can represent."""

import pytest
import torch
from torch import nn

from ulcompress.decoders import DiffusionDecoder
from ulcompress.denoisers import Denoiser
from ulcompress.diffusion import DDIM, ContinuousSchedule, Heun, Objective
from ulcompress.records import Condition, Sampling
from ulcompress.training import Trajectory

MIX = torch.tensor([[1.2, 0.0, 0.0], [0.5, 0.7, 0.0], [-0.4, 0.3, 0.3]])
COVARIANCE = MIX @ MIX.T
"""Of the target about its mean, over the three channels."""
SIDE = 4


def applied(matrices, values):
    return torch.einsum("bij,bjhw->bihw", matrices, values)


class ExactMean(Denoiser):
    """Returns the mean of x_0 under x_t, where the condition is the mean of the target."""

    channels = 3
    requires = frozenset({"spatial"})

    def __init__(self):
        super().__init__()
        self.condition_channels = {"spatial": 3}

    def forward(self, noisy, times, condition, context):
        t = (times / 999)[:, None, None]
        covariance = (1 - t) ** 2 * COVARIANCE + t**2 * torch.eye(3)
        gain = (1 - t) * COVARIANCE @ torch.linalg.inv(covariance)
        beyond = noisy - (1 - t)[..., None] * condition.spatial
        return condition.spatial + applied(gain, beyond)


class LinearByLevel(Denoiser):
    """Returns a linear map of x_t and the condition, another one at each of a few levels."""

    channels = 3
    requires = frozenset({"spatial"})

    def __init__(self, levels):
        super().__init__()
        self.condition_channels = {"spatial": 3}
        self.times = torch.tensor([999 * level for level in levels])
        self.of_noisy = nn.Parameter(torch.zeros(len(levels), 3, 3))
        self.of_condition = nn.Parameter(torch.zeros(len(levels), 3, 3))

    def forward(self, noisy, times, condition, context):
        level = (times[:, None] - self.times).abs().argmin(1)
        return applied(self.of_noisy[level], noisy) + applied(self.of_condition[level], condition.spatial)


def decoder_of(denoiser, steps):
    schedule = ContinuousSchedule(log_snr_min=-12.0, log_snr_max=9.0)
    return DiffusionDecoder(
        denoiser=denoiser, objective=Objective(schedule=schedule, prediction="sample"), sampler=DDIM(), steps=steps
    )


def distilled(trajectory, teacher, steps):
    """Return a student of an exact teacher at the lowest point of its error, and the error there."""
    levels = teacher.objective.schedule.sampling_levels(steps)
    student = decoder_of(LinearByLevel(levels), steps)
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(16, 3, SIDE, SIDE, generator=generator)
    target = mean + applied(MIX[None], torch.randn(16, 3, SIDE, SIDE, generator=generator))
    optimizer = torch.optim.LBFGS(student.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def error():
        torch.manual_seed(0)
        optimizer.zero_grad()
        total = sum(trajectory(student, teacher, target, Condition(spatial=mean)).error for _ in range(4 * steps))
        total.backward()
        return total

    optimizer.step(error)
    return student, error().item()


def samples_of(decoder, **options):
    condition = Condition(spatial=torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    with torch.no_grad():
        return condition, decoder.sample(condition, (32, 32), Sampling(seed=0, **options))


def test_one_step_becomes_the_map_of_the_differential_equation(one_thread):
    """From noise to the sample it is the root of the covariance, so that the student's samples have the covariance."""
    student, error = distilled(Trajectory(steps=60, sampler=Heun()), decoder_of(ExactMean(), 60), 1)
    assert error < 1e-4
    values, vectors = torch.linalg.eigh(COVARIANCE)
    root = vectors * values.sqrt() @ vectors.T
    torch.testing.assert_close(student.denoiser.of_noisy[0].detach(), root, atol=0.02, rtol=0.02)
    torch.testing.assert_close(student.denoiser.of_condition[0].detach(), torch.eye(3), atol=0.02, rtol=0.02)
    condition, sample = samples_of(student)
    torch.testing.assert_close((sample - condition.spatial)[0].flatten(1).cov(), COVARIANCE, atol=0.2, rtol=0.1)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_student_samples_what_its_teacher_samples_in_all_its_steps(steps, one_thread):
    teacher = decoder_of(ExactMean(), 8)
    student, error = distilled(Trajectory(steps=8 // steps, sampler=DDIM()), teacher, steps)
    assert error < 1e-3
    _, expected = samples_of(teacher)
    torch.testing.assert_close(samples_of(student)[1], expected, atol=0.02, rtol=0.02)
    _, few = samples_of(teacher, steps=steps)
    assert (few - expected).abs().max() > 0.1


class OfText(Denoiser):
    """Returns the first token of the text as x_0 everywhere."""

    channels = 3
    requires = frozenset({"text"})

    def __init__(self):
        super().__init__()
        self.condition_channels = {"text": 3}

    def forward(self, noisy, times, condition, context):
        return condition.text[:, 0, :, None, None].expand_as(noisy)


@pytest.mark.parametrize("steps", [1, 2])
def test_the_guidance_of_the_teacher_is_folded_into_the_student(steps):
    decoder = decoder_of(OfText(), steps)
    text, null = torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[[0.0, 1.0, 0.0]]])
    arrival = Trajectory(steps=1, guidance=3.0)(
        decoder, decoder, torch.zeros(1, 3, 4, 4), Condition(text=text, text_null=null)
    )
    expected = (null + 3 * (text - null))[:, 0, :, None, None].expand(1, 3, 4, 4)
    torch.testing.assert_close(arrival.reference, expected, atol=1e-3, rtol=1e-3)
    assert torch.equal(arrival.estimate[..., 0, 0], text[:, 0])


def test_a_student_that_is_its_teacher_arrives_where_it_arrives():
    decoder = decoder_of(ExactMean(), 3)
    for seed in range(6):
        torch.manual_seed(seed)
        target = torch.randn(2, 3, SIDE, SIDE)
        arrival = Trajectory(steps=1, sampler=DDIM())(decoder, decoder, target, Condition(spatial=target))
        assert float(arrival.error) == 0
        torch.testing.assert_close(arrival.estimate, arrival.reference, atol=1e-4, rtol=1e-4)


def test_the_levels_of_the_teacher_are_between_those_of_the_student():
    student = decoder_of(ExactMean(), 3)
    levels = Trajectory(steps=2).levels(student)
    assert [len(each) for each in levels] == [3, 3, 2]
    assert [each[0] for each in levels] == pytest.approx(student.objective.schedule.sampling_levels(3))
    assert [each[-1] for each in levels[:-1]] == [each[0] for each in levels[1:]]


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match=r"trajectory\.steps must be at least 1, got 0"):
        Trajectory(steps=0)
