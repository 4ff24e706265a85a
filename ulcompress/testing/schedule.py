"""The contract of a noise schedule, as checks."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ulcompress.diffusion.schedule import Schedule
from ulcompress.testing.requirements import copy_of, rebuilt, require, require_close, require_refusal

CPU = torch.device("cpu")
SHARES = (0.001, 0.3, 0.7, 1.0)
"""Of the process, at which noise levels are looked at: from nearly clean to the highest."""


def check_schedule(schedule: Schedule, *, steps: Sequence[int] = (1, 2, 5)) -> None:
    """Check that a noise schedule keeps its contract; the schedule itself is left as it is.

    - the signal falls and the noise rises with the level, from nearly clean to pure noise where `pure_noise` says so;
    - `times` go from 0 to 999;
    - `noisy` mixes signal and noise, a step keeps noise and clean sample, `log_snr` is that of the coefficients;
    - sampling levels are as many as the steps and fall from `highest(start)`, to 0 at the least;
    - training draws different levels, none below 0 or above `highest(start)`, of the type that `at` gives;
    - no steps, and a start that is not more than 0 and at most 1, are refused with ValueError;
    - `config()` builds an equal schedule.

    Args:
        schedule: Of any kind.
        steps: Numbers of steps that it takes from a start of 0.2, 0.5 and 1.

    Raises:
        AssertionError: It does not; the message says what it did and what the contract wants.
    """
    with copy_of(schedule) as part:
        _signal_falls(part)
        _ends_in_pure_noise(part)
        _has_the_times_of_denoisers(part)
        _mixes_signal_and_noise(part)
        _keeps_the_noise_in_a_step(part)
        _has_the_log_snr_of_its_coefficients(part)
        for start in (1.0, 0.5, 0.2):
            for count in steps:
                _has_falling_levels(part, count, start)
        for start in (1.0, 0.3, 0.004):
            _draws_below_the_start(part, start)
        _refuses_no_steps(part)
        _refuses_shares_outside_the_process(part)
        _is_built_again(part, rebuilt(part, Schedule), steps)


def levels_of(schedule: Schedule) -> Tensor:
    """Return four noise levels, from nearly clean to the highest, (4,)."""
    levels = [schedule.highest(share) for share in SHARES]
    return torch.tensor(levels, dtype=schedule.at(levels[0], torch.zeros(1)).dtype)


def _signal_falls(schedule: Schedule) -> None:
    alpha, sigma = schedule.coefficients(levels_of(schedule))
    shaped = alpha.shape == sigma.shape == (len(SHARES), 1, 1, 1)
    require(shaped, schedule, f"has coefficients of {tuple(alpha.shape)} and {tuple(sigma.shape)}; give (B, 1, 1, 1)")
    falls = (alpha.diff(dim=0) < 0).all() and (sigma.diff(dim=0) > 0).all()
    require(falls, schedule, "has a signal that does not fall, or noise that does not rise, with the level")
    clean = alpha[0] > 0.99 and sigma[0] < 0.1
    require(
        clean, schedule, f"is not nearly clean at the lowest level: alpha {float(alpha[0])}, sigma {float(sigma[0])}"
    )


def _ends_in_pure_noise(schedule: Schedule) -> None:
    alpha, sigma = (float(each[-1]) for each in schedule.coefficients(levels_of(schedule)))
    pure = (alpha, sigma) == (0, 1)
    sentence = f"has pure_noise={schedule.pure_noise} but alpha {alpha} and sigma {sigma} at the highest level"
    require(pure == schedule.pure_noise, schedule, sentence)


def _has_the_times_of_denoisers(schedule: Schedule) -> None:
    times = schedule.times(levels_of(schedule)).float()
    expected = torch.tensor([999 * share for share in SHARES])
    fits = times.shape == expected.shape and (times - expected).abs().max() <= 1
    require(fits, schedule, f"shows denoisers the times {times.tolist()} at the shares {SHARES}; they go from 0 to 999")


def _mixes_signal_and_noise(schedule: Schedule) -> None:
    levels, (clean, noise) = levels_of(schedule), torch.randn(2, len(SHARES), 3, 2, 2)
    alpha, sigma = schedule.coefficients(levels)
    sentence = "has a `noisy` other than alpha * clean + sigma * noise"
    require_close(schedule.noisy(clean, noise, levels), alpha * clean + sigma * noise, schedule, sentence)


def _keeps_the_noise_in_a_step(schedule: Schedule) -> None:
    levels, (clean, noise) = levels_of(schedule), torch.randn(2, len(SHARES) - 1, 3, 2, 2)
    noisy = schedule.noisy(clean, noise, levels[1:])
    stepped = schedule.step(noisy, clean, levels[1:], levels[:-1])
    sentence = "changes the noise or the clean sample in a step; only their shares may change"
    require_close(stepped, schedule.noisy(clean, noise, levels[:-1]), schedule, sentence)


def _has_the_log_snr_of_its_coefficients(schedule: Schedule) -> None:
    levels = levels_of(schedule)
    for level, alpha, sigma in zip(levels.tolist(), *schedule.coefficients(levels), strict=True):
        expected = 2 * math.log(alpha / sigma) if alpha > 0 else -math.inf
        found = schedule.log_snr(level)
        sentence = f"has a log_snr of {found} at the level {level}; its coefficients say {expected}"
        require(math.isclose(found, expected, rel_tol=1e-4, abs_tol=1e-4), schedule, sentence)


def _has_falling_levels(schedule: Schedule, steps: int, start: float) -> None:
    levels = schedule.sampling_levels(steps, start)
    require(len(levels) == steps, schedule, f"has {len(levels)} sampling levels for {steps} steps")
    highest = schedule.highest(start)
    require(levels[0] == highest, schedule, f"samples from {levels[0]}, not from highest({start}), which is {highest}")
    falling = levels == sorted(set(levels), reverse=True) and levels[-1] >= 0
    require(falling, schedule, f"has the sampling levels {levels}; they must fall, to 0 at the least")


def _draws_below_the_start(schedule: Schedule, start: float) -> None:
    levels, highest = schedule.draw(5000, CPU, start), schedule.highest(start)
    like = schedule.at(highest, levels)
    require(levels.shape == (5000,), schedule, f"draws levels of {tuple(levels.shape)} where (5000,) were asked for")
    require(levels.dtype == like.dtype, schedule, f"draws levels of {levels.dtype}, but `at` gives {like.dtype}")
    inside = levels.min() >= 0 and levels.max() <= like[0]
    sentence = f"draws levels from {levels.min()} to {levels.max()}; highest({start}) is {highest}, the lowest is 0"
    require(inside, schedule, sentence)
    require(len(levels.unique()) > 1, schedule, f"draws the level {levels[0]} alone, so that no other is trained")


def _refuses_no_steps(schedule: Schedule) -> None:
    for steps in (0, -1):
        sentence = f"takes {steps} steps; sampling_levels must raise ValueError"
        require_refusal(lambda steps=steps: schedule.sampling_levels(steps), schedule, sentence)


def _refuses_shares_outside_the_process(schedule: Schedule) -> None:
    for start in (0.0, -0.5, 1.1, math.nan):
        sentence = f"takes {start} as a share of the process; highest must raise ValueError"
        require_refusal(lambda start=start: schedule.highest(start), schedule, sentence)


def _is_built_again(schedule: Schedule, again: Schedule, steps: Sequence[int]) -> None:
    same = all(again.sampling_levels(count) == schedule.sampling_levels(count) for count in steps)
    require(same, schedule, "has other sampling levels than a schedule that was built from its config()")
