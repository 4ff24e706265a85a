"""The contract of a denoiser, as checks."""

import torch
from torch import Tensor

from ulcompress.denoisers.base import Denoiser
from ulcompress.records import Condition
from ulcompress.testing.conditions import random_condition, track
from ulcompress.testing.requirements import (
    copy_of,
    randomize_zeros,
    rebuilt,
    require,
    require_close,
    require_gradients,
    require_same,
    trained_parameters,
    unchanged_state,
)

TIMES = torch.tensor([5, 500, 999])
SMALLEST = 4
"""Least side of x_t, in positions; more where the denoiser's `multiple` is more."""


def check_denoiser(denoiser: Denoiser) -> None:
    """Check that a denoiser keeps its contract; the denoiser itself is left as it is.

    Its condition is random: `text` is tokens, `syntax` a vector, and every other field a map on the grid of x_t.
    Parameters of the copy that begin at zero get random weights, since they hide what lies behind them. Then:

    - what it requires has channels, and no field but the text can be left out;
    - the prediction has the shape of x_t, for sides that are multiples of `multiple`, and is finite;
    - a context serves all steps, is not changed by them, and does not depend on the text;
    - a sample does not depend on its batch, in the context neither;
    - x_t, the time and every field of the condition change the prediction;
    - a missing text or syntax is one of zeros; text that the mask leaves out does not count;
    - gradients reach x_t, the fields of the condition, and all parameters;
    - evaluation changes no state;
    - `config()` builds an equal denoiser.

    Raises:
        AssertionError: It does not; the message says what it did and what the contract wants.
    """
    with copy_of(denoiser) as part:
        randomize_zeros(part)
        _has_channels_of_what_it_requires(part)
        for scale in ((1, 1), (2, 3), (4, 1)):
            _predicts_the_shape(part, *scale)
        _keeps_a_context(part)
        _context_ignores_text(part)
        _samples_are_independent(part)
        _depends_on_all_inputs(part)
        _takes_zeros_for_what_is_missing(part)
        _ignores_masked_text(part)
        _evaluation_changes_nothing(part)
        _is_built_again(part, rebuilt(part, Denoiser))
        _inputs_get_gradients(part)
        _parameters_get_gradients(part)


def _inputs(denoiser: Denoiser, rows: int = 2, columns: int = 3) -> tuple[Tensor, Condition]:
    """Draw x_t and a condition of three samples with all that a denoiser takes."""
    side = -(-SMALLEST // denoiser.multiple) * denoiser.multiple
    shape = rows * side, columns * side
    condition = random_condition(denoiser.condition_channels, shape, count=len(TIMES))
    return torch.randn(len(TIMES), denoiser.channels, *shape), condition.with_(text_null=None)


def _predict(denoiser: Denoiser, noisy: Tensor, condition: Condition, times: Tensor = TIMES) -> Tensor:
    return denoiser(noisy, times, condition, denoiser.context(condition))


def _has_channels_of_what_it_requires(denoiser: Denoiser) -> None:
    channels, requires = set(denoiser.condition_channels), set(denoiser.requires)
    missing, spare = requires - channels, channels - requires - {"text"}
    require(not missing, denoiser, f"requires {sorted(missing)} but has no condition_channels of it")
    sentence = f"has condition_channels of {sorted(spare)}, which it does not require; only text may be missing"
    require(not spare, denoiser, sentence)


@torch.no_grad()
def _predicts_the_shape(denoiser: Denoiser, rows: int, columns: int) -> None:
    noisy, condition = _inputs(denoiser, rows, columns)
    prediction = _predict(denoiser, noisy, condition)
    shapes = f"{tuple(prediction.shape)} for x_t of {tuple(noisy.shape)}"
    require(prediction.shape == noisy.shape, denoiser, f"predicts {shapes}; both must have one shape")
    require(prediction.isfinite().all(), denoiser, "predicts numbers that are not finite")


@torch.no_grad()
def _keeps_a_context(denoiser: Denoiser) -> None:
    noisy, condition = _inputs(denoiser)
    context = denoiser.context(condition)
    before = [features.clone() for features in context]
    for times in (TIMES, TIMES.flip(0)):
        kept, fresh = denoiser(noisy, times, condition, context), _predict(denoiser, noisy, condition, times)
        require_same(kept, fresh, denoiser, "predicts something else with a context that was computed before")
    require_same(list(context), before, denoiser, "changes the context in forward; all steps of a sample share it")


@torch.no_grad()
def _context_ignores_text(denoiser: Denoiser) -> None:
    _, condition = _inputs(denoiser)
    without = denoiser.context(condition.with_(text=None, text_mask=None))
    sentence = "has a context that depends on the text, in whose place guidance shows the empty caption"
    require_same(list(denoiser.context(condition)), list(without), denoiser, sentence)


@torch.no_grad()
def _samples_are_independent(denoiser: Denoiser) -> None:
    noisy, condition = _inputs(denoiser)
    together, context = _predict(denoiser, noisy, condition), denoiser.context(condition)
    for row in range(len(TIMES)):
        rows = torch.tensor([row])
        part, whole = condition.of(rows), together[rows]
        alone = _predict(denoiser, noisy[rows], part, TIMES[rows])
        require_close(alone, whole, denoiser, "predicts something else for a sample beside others in a batch")
        kept = denoiser(noisy[rows], TIMES[rows], part, [features[rows] for features in context])
        require_close(kept, whole, denoiser, "has a context whose rows are not those of the batch")


@torch.no_grad()
def _depends_on_all_inputs(denoiser: Denoiser) -> None:
    noisy, condition = _inputs(denoiser)
    prediction = _predict(denoiser, noisy, condition)
    different = {
        "x_t": _predict(denoiser, -noisy, condition),
        "the time": _predict(denoiser, noisy, condition, TIMES - 4),
    }
    for name in condition.provided - {"text_mask"}:
        value = condition[name]
        assert value is not None
        different[name] = _predict(denoiser, noisy, condition.with_(**{name: -value}))
    for name, other in different.items():
        unlike = not torch.allclose(other, prediction, atol=1e-5)
        require(unlike, denoiser, f"predicts the same whatever {name} is, though it asks for it")


@torch.no_grad()
def _takes_zeros_for_what_is_missing(denoiser: Denoiser) -> None:
    noisy, condition = _inputs(denoiser)
    zeros = {name: torch.zeros_like(value) for name in ("text", "syntax") if (value := condition[name]) is not None}
    if "text" in zeros:
        zeros["text"] = zeros["text"][:, :1]
    present = _predict(denoiser, noisy, condition.with_(**zeros, text_mask=None))
    missing = _predict(denoiser, noisy, condition.with_(text=None, text_mask=None, syntax=None))
    require_same(missing, present, denoiser, "predicts something else for no text or syntax than for one of zeros")


@torch.no_grad()
def _ignores_masked_text(denoiser: Denoiser) -> None:
    noisy, condition = _inputs(denoiser)
    if condition.text is None or condition.text_mask is None:
        return
    changed = condition.with_(text=condition.text + 9 * ~condition.text_mask[..., None])
    one, other = (_predict(denoiser, noisy, each) for each in (condition, changed))
    require_close(one, other, denoiser, "looks at text tokens that the mask leaves out")


def _inputs_get_gradients(denoiser: Denoiser) -> None:
    noisy, condition = _inputs(denoiser)
    tracked = {"x_t": noisy.requires_grad_(), **track(condition)}
    _predict(denoiser, noisy, condition).square().sum().backward()
    require_gradients(tracked, denoiser)


def _parameters_get_gradients(denoiser: Denoiser) -> None:
    denoiser.zero_grad()
    _predict(denoiser, *_inputs(denoiser)).square().sum().backward()
    require_gradients(trained_parameters(denoiser), denoiser)


def _evaluation_changes_nothing(denoiser: Denoiser) -> None:
    with unchanged_state(denoiser):
        _predict(denoiser, *_inputs(denoiser))


@torch.no_grad()
def _is_built_again(denoiser: Denoiser, again: Denoiser) -> None:
    inputs = _inputs(denoiser)
    sentence = "differs from a denoiser that was built from its config() and has its weights"
    require_same(_predict(again, *inputs), _predict(denoiser, *inputs), denoiser, sentence)
