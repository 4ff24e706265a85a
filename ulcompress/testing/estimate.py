"""The contract of an estimate, as checks."""

import torch
from torch import Tensor

from ulcompress.diffusion.estimate import Estimate
from ulcompress.records import Condition
from ulcompress.testing.conditions import random_condition, track
from ulcompress.testing.requirements import (
    copy_of,
    rebuilt,
    require,
    require_close,
    require_gradients,
    require_same,
    unchanged_state,
)

SHAPE = (2, 3)
"""Of the features."""
BATCH = 16
"""Images that an estimate learns from."""


def check_estimate(estimate: Estimate) -> None:
    """Check that an estimate keeps its contract; the estimate itself is left as it is.

    Its condition is random: `text` is tokens, `syntax` a vector, and every other field a map. Then:

    - where it must learn before a training it is `prepared` once it has seen batches, and remains so when saved;
    - it expects channels of exactly the fields that it requires;
    - it lies on the target's grid, with `channels`, and is finite;
    - it depends on the condition and on nothing else: every required field changes it, no random number does, and an
      image's does not depend on its batch;
    - a gradient reaches every required field;
    - evaluation changes no state;
    - `config()` builds an equal estimate.

    Raises:
        AssertionError: It does not; the message says what it did and what the contract wants.
    """
    with copy_of(estimate) as part:
        _learns_before_a_training(part)
        _has_channels_of_what_it_requires(part)
        _is_on_the_grid_of_the_target(part)
        _is_deterministic(part)
        _depends_on_what_it_requires(part)
        _images_are_independent(part)
        _fields_get_gradients(part)
        _evaluation_changes_nothing(part)
        _is_built_again(part, rebuilt(part, Estimate))


def _target_shape(estimate: Estimate) -> tuple[int, int]:
    scale = _scale(estimate)
    return SHAPE[0] * scale, SHAPE[1] * scale


def _scale(estimate: Estimate) -> int:
    if estimate.feature_stride is None or estimate.target_stride is None:
        return 1
    return estimate.feature_stride // estimate.target_stride


def _condition(estimate: Estimate, count: int = 2) -> Condition:
    shape, coarser = _target_shape(estimate), _scale(estimate)
    return random_condition(estimate.condition_channels, shape, count=count, coarser=coarser)


def _learns_before_a_training(estimate: Estimate) -> None:
    if not estimate.prepared:
        target = torch.randn(BATCH, estimate.channels, *_target_shape(estimate))
        estimate.prepare([(target, _condition(estimate, BATCH))])
        require(estimate.prepared, estimate, "is not prepared after `prepare`, so that no training can begin")


def _has_channels_of_what_it_requires(estimate: Estimate) -> None:
    expected, required = set(estimate.condition_channels), set(estimate.requires)
    sentence = (
        f"requires {sorted(required)} but has condition_channels of {sorted(expected)}; they must be the same fields"
    )
    require(expected == required, estimate, sentence)


@torch.no_grad()
def _is_on_the_grid_of_the_target(estimate: Estimate) -> None:
    found, wanted = estimate(_condition(estimate)), (2, estimate.channels, *_target_shape(estimate))
    require(found.shape == wanted, estimate, f"is {tuple(found.shape)} for a target of {wanted}")
    require(found.isfinite().all(), estimate, "holds numbers that are not finite")


@torch.no_grad()
def _is_deterministic(estimate: Estimate) -> None:
    condition = _condition(estimate)
    require_same(
        estimate(condition), estimate(condition), estimate, "estimates two things from one condition; draw nothing"
    )


@torch.no_grad()
def _depends_on_what_it_requires(estimate: Estimate) -> None:
    condition = _condition(estimate)
    once = estimate(condition)
    for name in estimate.requires:
        other = estimate(condition.with_(**{name: -_field(condition, name)}))
        require(not torch.allclose(other, once), estimate, f"is the same whatever {name} is, though it requires it")


def _field(condition: Condition, name: str) -> Tensor:
    value = condition[name]
    assert value is not None
    return value


@torch.no_grad()
def _images_are_independent(estimate: Estimate) -> None:
    condition = _condition(estimate, 3)
    alone = torch.cat([estimate(condition.of(torch.tensor([row]))) for row in range(3)])
    require_close(estimate(condition), alone, estimate, "is another for an image beside others in a batch")


def _fields_get_gradients(estimate: Estimate) -> None:
    condition = _condition(estimate)
    tracked = track(condition)
    estimate(condition).square().sum().backward()
    require_gradients({name: tracked[name] for name in tracked.keys() & estimate.requires}, estimate)


def _evaluation_changes_nothing(estimate: Estimate) -> None:
    with unchanged_state(estimate):
        estimate(_condition(estimate))


@torch.no_grad()
def _is_built_again(estimate: Estimate, again: Estimate) -> None:
    condition = _condition(estimate)
    sentence = "differs from an estimate that was built from its config() and has its weights"
    require_close(again(condition), estimate(condition), estimate, sentence)
    require(again.added == estimate.added, estimate, sentence)
    require(again.prepared, estimate, "is not prepared once it is built again with its weights; keep that in a buffer")
