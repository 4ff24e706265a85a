"""The contract of a sampler, as checks."""

import math

import torch
from torch import Tensor

from ulcompress.diffusion.discrete_schedule import DiscreteSchedule
from ulcompress.diffusion.sampler import Sampler
from ulcompress.diffusion.schedule import Schedule
from ulcompress.testing.requirements import (
    copy_of,
    rebuilt,
    require,
    require_close,
    require_gradients,
    require_refusal,
    require_same,
)

TOLERANCE = 2e-3
"""To which a network that knows the clean sample must lead to it: diffusers' solvers leave a signal of 2^-12."""
NEAR = 0.1
"""To which 200 steps must lead to the solution: a schedule may leave out what is nearly pure noise or nearly clean."""


def check_sampler(sampler: Sampler, schedule: Schedule | None = None) -> None:
    """Check that a sampler keeps its contract on a schedule; the sampler itself is left as it is.

    - a network that knows the clean sample ends at it, in 1, 4 and 20 steps; it is asked first at the level of the
      start, and levels never rise;
    - 200 steps come near the closed form of the differential equation's solution for data that are Gaussian;
    - the same noise gives the same sample, and an image's does not depend on its batch;
    - a gradient reaches the network;
    - it begins at a later start, or says by `starts_late` that it does not and `check` refuses with ValueError;
    - no steps, and a negative number, are refused with ValueError;
    - `config()` builds an equal sampler.

    Args:
        sampler: Of any kind.
        schedule: One on which it works; Stable Diffusion's by default. One with a list of sampling levels will not do.

    Raises:
        AssertionError: It does not; the message says what it did and what the contract wants.
    """
    with copy_of(sampler) as part:
        process = DiscreteSchedule() if schedule is None else schedule
        part.check(process, 1.0)
        for steps in (1, 4, 20):
            _ends_at_the_clean_sample(part, process, steps)
        _solves_the_equation(part, process)
        _follows_from_the_noise(part, process)
        _images_are_independent(part, process)
        _network_gets_a_gradient(part, process)
        _starts_late(part, process)
        _refuses_no_steps(part, process)
        _is_built_again(part, rebuilt(part, Sampler), process)


class GaussianData:
    """Data of a mean and a variance: the best estimate, and where the differential equation leads, are known."""

    def __init__(self, schedule: Schedule, *, start: float = 1.0, mean: float = 0.5, variance: float = 0.25):
        """Draw x_t at a start of the process, (1, 4, 8, 8)."""
        self.schedule, self.start, self.mean, self.variance = schedule, start, mean, variance
        level = schedule.at(schedule.highest(start), torch.zeros(1))
        self.noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        self.noisy = schedule.coefficients(level)[0] * mean + self._energy(level).sqrt() * self.noise

    def __call__(self, noisy: Tensor, levels: Tensor) -> Tensor:
        """Return the mean of x_0 given x_t."""
        alpha, _ = self.schedule.coefficients(levels)
        return self.mean + alpha * self.variance * (noisy - alpha * self.mean) / self._energy(levels)

    @property
    def solution(self) -> Tensor:
        """Where the differential equation leads from x_t, (1, 4, 8, 8)."""
        return self.mean + math.sqrt(self.variance) * self.noise

    def sample(self, sampler: Sampler, steps: int) -> Tensor:
        """Sample from x_t."""
        return sampler.sample(self.schedule, self, self.noisy, steps, start=self.start)

    def _energy(self, levels: Tensor) -> Tensor:
        alpha, sigma = self.schedule.coefficients(levels)
        return alpha.square() * self.variance + sigma.square()


def _squashed(noisy: Tensor, levels: Tensor) -> Tensor:
    """Be a network that depends on what it sees."""
    return 0.3 * noisy.tanh()


def _ends_at_the_clean_sample(sampler: Sampler, schedule: Schedule, steps: int, start: float = 1.0) -> None:
    clean, noise = torch.randn(2, 1, 4, 3, 2)
    seen: list[float] = []

    def denoise(noisy: Tensor, levels: Tensor) -> Tensor:
        seen.append(float(levels))
        return clean

    highest = schedule.highest(start)
    noisy = schedule.noisy(clean, noise, schedule.at(highest, noise))
    sample = sampler.sample(schedule, denoise, noisy, steps, start=start)
    sentence = f"does not end at the clean sample in {steps} steps from {start}, though the network knows it"
    require_close(sample, clean, sampler, sentence, TOLERANCE)
    first = torch.equal(schedule.at(seen[0], noise).float(), schedule.at(highest, noise).float())
    require(first, sampler, f"asks the network first at the level {seen[0]}; the start is {highest}")
    require(seen == sorted(seen, reverse=True), sampler, f"goes through the levels {seen}; they must not rise")


def _solves_the_equation(sampler: Sampler, schedule: Schedule) -> None:
    gaussian = GaussianData(schedule, mean=0.0)
    sentence = "does not come near the solution of the differential equation in 200 steps"
    require_close(gaussian.sample(sampler, 200), gaussian.solution, sampler, sentence, NEAR)


def _follows_from_the_noise(sampler: Sampler, schedule: Schedule) -> None:
    noise = torch.randn(1, 4, 3, 2)
    once, again = (sampler.sample(schedule, _squashed, noise, 4) for _ in range(2))
    require_same(once, again, sampler, "gives two samples for the same noise; draw nothing")


def _images_are_independent(sampler: Sampler, schedule: Schedule) -> None:
    noise = torch.randn(3, 4, 3, 2)
    alone = torch.cat([sampler.sample(schedule, _squashed, one[None], 4) for one in noise])
    sentence = "samples an image differently beside others in a batch"
    require_close(sampler.sample(schedule, _squashed, noise, 4), alone, sampler, sentence)


def _network_gets_a_gradient(sampler: Sampler, schedule: Schedule) -> None:
    weight = torch.tensor(0.3, requires_grad=True)
    sampler.sample(schedule, lambda x, t: weight * x.tanh(), torch.randn(1, 4, 3, 2), 4).square().sum().backward()
    require_gradients({"the network": weight}, sampler)


def _starts_late(sampler: Sampler, schedule: Schedule) -> None:
    if sampler.starts_late:
        _ends_at_the_clean_sample(sampler, schedule, 4, start=0.5)
        return
    sentence = "says that it does not start late, but its check takes a start of 0.5; it must raise ValueError"
    require_refusal(lambda: sampler.check(schedule, 0.5), sampler, sentence)


def _refuses_no_steps(sampler: Sampler, schedule: Schedule) -> None:
    noise = torch.zeros(1, 4, 1, 1)
    for steps in (0, -1):
        sentence = f"takes {steps} steps; sample must raise ValueError"
        require_refusal(lambda steps=steps: sampler.sample(schedule, _squashed, noise, steps), sampler, sentence)


def _is_built_again(sampler: Sampler, again: Sampler, schedule: Schedule) -> None:
    noise = torch.randn(1, 4, 3, 2)
    samples = [each.sample(schedule, _squashed, noise, 4) for each in (sampler, again)]
    require_same(*samples, part=sampler, sentence="samples differently from one that was built from its config()")
