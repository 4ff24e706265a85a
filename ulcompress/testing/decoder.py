"""The contract of a decoder, as checks."""

from contextlib import suppress

import torch
from torch import Tensor

from ulcompress.decoders.base import Decoder
from ulcompress.diffusion.samplers import SAMPLERS
from ulcompress.records import Condition, Sampling
from ulcompress.testing.conditions import random_condition, track, without_text
from ulcompress.testing.requirements import (
    copy_of,
    randomize_zeros,
    rebuilt,
    require,
    require_declared,
    require_gradients,
    require_same,
    unchanged_state,
)

CHANNELS = {"base": 3, "syntax": 5, "spatial": 3}
"""Of fields whose channels a decoder leaves open."""
COARSER = 2
"""Positions of the target a feature position, along each side, for a decoder that takes any."""
SHAPES = ((1, 1), (2, 2), (2, 3), (5, 4))
"""Of the target, in feature positions."""


def check_decoder(decoder: Decoder) -> None:
    """Check that a decoder keeps its contract; the decoder itself is left as it is.

    Its condition is random: `text` is tokens, `syntax` a vector, and every other field a map. Parameters of the copy
    that begin at zero get random weights, since they hide what lies behind them. Then:

    - what it requires it accepts, and it expects channels of accepted fields only;
    - `loss` gives finite scalar terms and an estimate of the target's shape, with text and without;
    - the sum of the terms gives a finite gradient to every accepted field that is a map, a vector or tokens;
    - a sample has the shape that is asked for, is finite, and follows from the seed and the condition alone;
    - it depends on every required field;
    - guidance changes nothing where there is no text;
    - without noise (`noise_scale` 0) every seed gives the same sample; a start of 0.5, and every sampler that has a
      name, gives finite numbers or is refused with ValueError;
    - evaluation changes no state;
    - `config()` builds an equal decoder.

    Raises:
        AssertionError: It does not; the message says what it did and what the contract wants.
    """
    with copy_of(decoder) as part:
        randomize_zeros(part)
        _accepts_what_it_requires(part)
        for text in (True, False) if "text" in part.accepts - part.requires else (True,):
            _loses_with_gradients(part, text)
        with torch.no_grad():
            for shape in SHAPES:
                _samples_the_shape(part, *shape)
            _follows_from_the_seed(part)
            _depends_on_what_it_requires(part)
            _guides_by_text_alone(part)
            _takes_options_of_use(part)
            _evaluation_changes_nothing(part)
            _is_built_again(part, rebuilt(part, Decoder))


def _scale(decoder: Decoder) -> int:
    if decoder.feature_stride is None or decoder.target_stride is None:
        return COARSER
    return decoder.feature_stride // decoder.target_stride


def _case(decoder: Decoder, rows: int = 2, columns: int = 3, *, count: int = 1) -> tuple[Condition, tuple[int, int]]:
    """Draw a condition with all that a decoder accepts; return it with the shape of the target."""
    scale = _scale(decoder)
    shape = rows * scale, columns * scale
    accepted = decoder.accepts - {"text_mask", "text_null"}
    channels = {name: {**CHANNELS, **decoder.condition_channels}.get(name, 1) for name in accepted}
    return random_condition(channels, shape, count=count, coarser=scale), shape


def _accepts_what_it_requires(decoder: Decoder) -> None:
    missing = decoder.requires - decoder.accepts
    require(
        not missing, decoder, f"requires {sorted(missing)} but does not accept it; accepts includes what is required"
    )
    unknown = set(decoder.condition_channels) - decoder.accepts
    require(not unknown, decoder, f"expects channels of {sorted(unknown)}, which it does not accept")


def _loses_with_gradients(decoder: Decoder, text: bool) -> None:
    condition, shape = _case(decoder, count=4)
    condition = condition if text else without_text(condition)
    tracked, target = track(condition), torch.randn(4, decoder.channels, *shape)
    denoised = decoder.loss(target, condition)
    shapes = f"{tuple(denoised.estimate.shape)} of a target of {tuple(target.shape)}"
    require(denoised.estimate.shape == target.shape, decoder, f"returns an estimate of {shapes}")
    require(bool(denoised.losses), decoder, "has no loss term, so that nothing trains it")
    require_declared(denoised.losses, decoder.loss_terms, decoder)
    for name, term in denoised.losses.items():
        require(term.shape == () and term.isfinite(), decoder, f"has a term {name} that is not one finite number")
    torch.stack(list(denoised.losses.values())).sum().backward()
    require_gradients(tracked, decoder)


def _samples_the_shape(decoder: Decoder, rows: int, columns: int) -> None:
    condition, shape = _case(decoder, rows, columns)
    sample = decoder.sample(condition, shape, Sampling(seed=0))
    expected = (1, decoder.channels, *shape)
    require(sample.shape == expected, decoder, f"samples {tuple(sample.shape)} where {expected} was asked for")
    require(sample.isfinite().all(), decoder, "samples numbers that are not finite")


def _follows_from_the_seed(decoder: Decoder) -> None:
    condition, shape = _case(decoder)
    once = decoder.sample(condition, shape, Sampling(seed=7))
    torch.manual_seed(99)
    again = decoder.sample(condition, shape, Sampling(seed=7))
    require_same(once, again, decoder, "samples another image from the same seed; draw all noise from `seed`")


def _depends_on_what_it_requires(decoder: Decoder) -> None:
    condition, shape = _case(decoder)
    sample = decoder.sample(condition, shape, Sampling(seed=7))
    for name in decoder.requires:
        other = decoder.sample(condition.with_(**{name: _flipped(condition[name])}), shape, Sampling(seed=7))
        require(not torch.equal(other, sample), decoder, f"samples the same whatever {name} is, though it requires it")


def _flipped(value: Tensor | None) -> Tensor:
    assert value is not None
    return value.flip(1)


def _guides_by_text_alone(decoder: Decoder) -> None:
    condition, shape = _case(decoder)
    if "text" in decoder.requires:
        return
    samples = [decoder.sample(without_text(condition), shape, Sampling(seed=1, guidance=scale)) for scale in (1.0, 5.0)]
    require_same(*samples, part=decoder, sentence="is changed by guidance though there is no text to guide by")


def _takes_options_of_use(decoder: Decoder) -> None:
    condition, shape = _case(decoder)
    samples = [decoder.sample(condition, shape, Sampling(seed=seed, noise_scale=0.0)) for seed in (1, 2)]
    require_same(*samples, part=decoder, sentence="depends on the seed though the noise has a scale of 0")
    for sampling in (Sampling(start=0.5), *(Sampling(sampler=name) for name in SAMPLERS)):
        with suppress(ValueError):
            sample = decoder.sample(condition, shape, sampling)
            require(sample.isfinite().all(), decoder, f"samples numbers that are not finite, with {sampling}")


def _evaluation_changes_nothing(decoder: Decoder) -> None:
    condition, shape = _case(decoder)
    with unchanged_state(decoder):
        decoder.sample(condition, shape, Sampling(seed=0))


def _is_built_again(decoder: Decoder, again: Decoder) -> None:
    condition, shape = _case(decoder)
    sentence = "differs from a decoder that was built from its config() and has its weights"
    samples = [each.sample(condition, shape, Sampling(seed=0)) for each in (decoder, again)]
    require_same(*samples, part=decoder, sentence=sentence)
