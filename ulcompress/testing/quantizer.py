"""The contract of a quantiser, as checks."""

import torch
from torch import Tensor

from ulcompress.coding.arithmetic import ArithmeticDecoder
from ulcompress.quantizers.base import Quantizer
from ulcompress.records import Quantized
from ulcompress.testing.messages import message_of, require_bits, require_cost
from ulcompress.testing.requirements import (
    copy_of,
    equal,
    randomize_zeros,
    rebuilt,
    require,
    require_close,
    require_declared,
    require_gradients,
    require_refusal,
    require_same,
    tensors_in,
    trained_parameters,
    unchanged_state,
)

GRID = (3, 5)
GRIDS = ((1, 1), GRID, (20, 20))


def check_quantizer(quantizer: Quantizer) -> None:
    """Check that a quantiser keeps its contract; the quantiser itself is left as it is.

    Parameters of the copy that begin at zero get random weights, since they hide what lies behind them; it then sees
    three random batches in training mode, which codebooks and statistics may need. Then:

    - features keep their shape, symbols hold no floats, and different features give different symbols;
    - `dequantize` returns exactly the features of the forward pass in evaluation mode;
    - symbols that are written and read back are equal, at every rate, on grids of one position and more;
    - the estimated bits are finite, not negative, one number an image, and those that are written, up to 1 and a
      thousandth;
    - bits depend on the image's caption where the quantiser says so, and all of this holds with captions;
    - an image's features and bits do not depend on the batch;
    - gradients reach all positions of the features, and in training all parameters; loss terms are finite scalars;
    - evaluation changes no state;
    - `at_rate` takes the rates 1 to `rates` and refuses others with ValueError, `rate_of` tells the rate again,
      `mixed` and `anneal` give features as the forward pass does;
    - `alphabets` are indices below the size that it tells, `fixed_length_bits` one number a rate, or none;
    - `config()` builds an equal quantiser, which reads what this one wrote; `encoder_arguments` are in it.

    Raises:
        AssertionError: It does not; the message says what it did and what the contract wants.
    """
    with copy_of(quantizer) as part:
        randomize_zeros(part)
        _see(part)
        _evaluation_changes_nothing(part)
        _keeps_the_shape(part)
        _symbols_are_integers(part)
        _different_features_give_different_symbols(part)
        _dequantizes_exactly(part)
        for grid in GRIDS:
            _reads_what_it_wrote(part, part(_features(part, 1, grid), **_caption(part)), grid)
        _estimates_bits_of_each_image(part)
        _bits_depend_on_captions(part)
        _images_are_independent(part)
        _positions_get_gradients(part)
        _takes_its_rates(part)
        _refuses_other_rates(part)
        _anneals(part)
        _mixes_rates(part)
        _alphabets_hold_the_indices(part)
        _fixed_lengths_are_of_the_rates(part)
        _is_built_again(part, rebuilt(part, Quantizer))
        _encoder_arguments_exist(part)
        _parameters_get_gradients(part)


def _features(quantizer: Quantizer, count: int = 1, grid: tuple[int, int] = GRID) -> Tensor:
    return 3 * torch.randn(count, quantizer.channels, *grid)


def _captions(quantizer: Quantizer, count: int) -> dict[str, list[str]]:
    """Return the argument `captions` for so many images, the last without one, where the quantiser has it."""
    captions = [f"{number} red cups" if number else "" for number in reversed(range(count))]
    return {"captions": captions} if quantizer.reads_captions else {}


def _caption(quantizer: Quantizer) -> dict[str, list[str]]:
    """Return the argument `captions` for one image, where the quantiser has it."""
    return {"captions": ["a red cup on a table"]} if quantizer.reads_captions else {}


def _see(quantizer: Quantizer) -> None:
    quantizer.train()
    for _ in range(3):
        quantizer(_features(quantizer, 4))
    quantizer.eval()


@torch.no_grad()
def _keeps_the_shape(quantizer: Quantizer) -> None:
    for count in (1, 3):
        features = _features(quantizer, count)
        _require_shape(quantizer, quantizer(features), features)


@torch.no_grad()
def _symbols_are_integers(quantizer: Quantizer) -> None:
    floats = [part for part in tensors_in(quantizer(_features(quantizer)).symbols) if part.is_floating_point()]
    require(not floats, quantizer, "has floats among its symbols; a symbol that is coded must be an integer")


@torch.no_grad()
def _different_features_give_different_symbols(quantizer: Quantizer) -> None:
    one, other = (quantizer(10 * _features(quantizer)).symbols for _ in range(2))
    require(not equal(one, other), quantizer, "gives the same symbols to two different maps of features")


@torch.no_grad()
def _dequantizes_exactly(quantizer: Quantizer) -> None:
    for count in (1, 3):
        quantized = quantizer(_features(quantizer, count))
        _require_dequantized(quantizer, quantized)


@torch.no_grad()
def _reads_what_it_wrote(quantizer: Quantizer, quantized: Quantized, grid: tuple[int, int]) -> None:
    data = message_of(lambda coder: quantizer.write(quantized.symbols, coder, **_caption(quantizer)))
    decoder = ArithmeticDecoder(data)
    again = quantizer.read(decoder, grid, **_caption(quantizer))
    sentence = f"reads other symbols than it wrote on a grid of {grid}; read must return what write was called with"
    require_same(again, quantized.symbols, quantizer, sentence)
    require_cost(decoder, quantized.bits, quantizer)


@torch.no_grad()
def _estimates_bits_of_each_image(quantizer: Quantizer) -> None:
    require_bits(quantizer(_features(quantizer, 3)).bits, 3, quantizer)


@torch.no_grad()
def _bits_depend_on_captions(quantizer: Quantizer) -> None:
    if quantizer.reads_captions:
        features = _features(quantizer)
        captioned, plain = quantizer(features, **_caption(quantizer)).bits, quantizer(features).bits
        require(captioned != plain, quantizer, "says that it reads captions, but estimates the same bits without one")


@torch.no_grad()
def _images_are_independent(quantizer: Quantizer) -> None:
    batch = _features(quantizer, 3)
    captions = _captions(quantizer, 3)
    together = quantizer(batch, **captions)
    alone = [
        quantizer(image[None], **{name: [texts[number]] for name, texts in captions.items()})
        for number, image in enumerate(batch)
    ]
    features, bits = (torch.cat([getattr(each, name) for each in alone]) for name in ("features", "bits"))
    require_close(together.features, features, quantizer, "quantises an image differently beside others in a batch")
    require_close(together.bits, bits, quantizer, "estimates other bits for an image beside others in a batch")


def _positions_get_gradients(quantizer: Quantizer) -> None:
    features = _features(quantizer, 2).requires_grad_()
    quantizer(features).features.square().sum().backward()
    require_gradients({"the features": features}, quantizer)
    assert features.grad is not None
    reached = (features.grad.abs().sum(1) > 0).all()
    require(reached, quantizer, "passes no gradient to some positions of the features; pass it straight through")


def _parameters_get_gradients(quantizer: Quantizer) -> None:
    features = (10 * _features(quantizer, 6)).requires_grad_()
    quantizer.zero_grad()
    quantized = quantizer.train()(features, **_captions(quantizer, 6))
    _require_shape(quantizer, quantized, features)
    require_declared(quantized.losses, quantizer.loss_terms, quantizer)
    for name, term in quantized.losses.items():
        require(term.shape == () and term.isfinite(), quantizer, f"has a term {name} that is not one finite number")
    total = quantized.features.square().sum() + quantized.bits.sum()
    torch.stack([total, *quantized.losses.values()]).sum().backward()
    require_gradients({"the features": features, **trained_parameters(quantizer)}, quantizer)


def _evaluation_changes_nothing(quantizer: Quantizer) -> None:
    with unchanged_state(quantizer):
        quantizer(_features(quantizer, 4))


@torch.no_grad()
def _takes_its_rates(quantizer: Quantizer) -> None:
    require(quantizer.rates >= 1, quantizer, f"has {quantizer.rates} rates; there must be one at least")
    features = _features(quantizer)
    for rate in range(1, quantizer.rates + 1):
        quantized = quantizer.at_rate(features, rate, **_caption(quantizer))
        stated = quantizer.rate_of(quantized.symbols)
        require(stated == rate, quantizer, f"says of symbols of the rate {rate} that their rate is {stated}")
        _require_dequantized(quantizer, quantized)
        _reads_what_it_wrote(quantizer, quantized, GRID)
    highest = quantizer(features, **_caption(quantizer)).symbols
    require_same(
        quantized.symbols, highest, quantizer, "has other symbols at its highest rate than in its forward pass"
    )


def _refuses_other_rates(quantizer: Quantizer) -> None:
    for rate in (0, quantizer.rates + 1):
        require_refusal(
            lambda rate=rate: quantizer.at_rate(_features(quantizer), rate),
            quantizer,
            f"takes the rate {rate} though it has the rates 1 to {quantizer.rates}; at_rate must raise ValueError",
        )


def _anneals(quantizer: Quantizer) -> None:
    for rate in range(1, quantizer.rates + 1):
        features = (10 * _features(quantizer, 6)).requires_grad_()
        annealed = quantizer.anneal(features, 0.5, rate)
        _require_shape(quantizer, annealed, features)
        annealed.features.square().sum().backward()
        reached = features.grad is not None and features.grad.isfinite().all()
        require(reached, quantizer, "gives the features no finite gradient in anneal, with which they are searched")


@torch.no_grad()
def _mixes_rates(quantizer: Quantizer) -> None:
    features = _features(quantizer, 4)
    mixed = quantizer.mixed(features)
    _require_shape(quantizer, mixed, features)
    require_bits(mixed.bits, 4, quantizer)


@torch.no_grad()
def _alphabets_hold_the_indices(quantizer: Quantizer) -> None:
    for indices, size in quantizer.alphabets(quantizer(_features(quantizer, 3)).symbols):
        whole = not indices.is_floating_point() and len(indices) == 3
        require(whole, quantizer, "has alphabets of indices that are not integers, (B, h, w)")
        inside = indices.min() >= 0 and indices.max() < size
        require(inside, quantizer, f"has indices outside 0 to {size - 1}, the alphabet that it tells")


def _fixed_lengths_are_of_the_rates(quantizer: Quantizer) -> None:
    bits = quantizer.fixed_length_bits(*GRID)
    fits = len(bits) in (0, quantizer.rates)
    require(fits, quantizer, f"tells {len(bits)} fixed lengths for {quantizer.rates} rates; give one a rate, or none")
    rising = all(value > 0 for value in bits) and bits == sorted(bits)
    require(
        rising, quantizer, f"tells the fixed lengths {bits}; they must be positive, a higher rate never the shorter"
    )


@torch.no_grad()
def _is_built_again(quantizer: Quantizer, again: Quantizer) -> None:
    quantized = quantizer(_features(quantizer))
    data = message_of(lambda coder: quantizer.write(quantized.symbols, coder))
    symbols = again.read(ArithmeticDecoder(data), GRID)
    sentence = "is read differently by a quantiser that was built from its config() and has its weights"
    require_same(again.dequantize(symbols), quantized.features, quantizer, sentence)


def _encoder_arguments_exist(quantizer: Quantizer) -> None:
    unknown = ", ".join(sorted(quantizer.encoder_arguments - quantizer.arguments().keys()))
    require(not unknown, quantizer, f"has the `encoder_arguments` {unknown}, which its constructor does not take")


def _require_shape(quantizer: Quantizer, quantized: Quantized, features: Tensor) -> None:
    shapes = tuple(features.shape), tuple(quantized.features.shape)
    require(shapes[0] == shapes[1], quantizer, "makes features of {} into {}; the shape must stay".format(*shapes))


def _require_dequantized(quantizer: Quantizer, quantized: Quantized) -> None:
    sentence = (
        "dequantizes symbols to other features than its forward pass gave; they must be exactly Quantized.features"
    )
    require_same(quantizer.dequantize(quantized.symbols), quantized.features, quantizer, sentence)
