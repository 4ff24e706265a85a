"""The contract of an entropy model, as checks."""

import copy

import torch
from torch import Tensor

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.entropy.base import EntropyModel
from ulcompress.testing.messages import message_of, require_bits, require_cost
from ulcompress.testing.requirements import copy_of, rebuilt, require, require_close, require_refusal, require_same

ALPHABET = 100
SHAPES = ((7,), (4, 6), (2, 3, 4), (0,))


def check_entropy_model(model: EntropyModel) -> None:
    """Check that an entropy model keeps its contract; it must not be built yet, and is left as it is.

    - it is refused with ValueError before `build`, and an alphabet needs a symbol;
    - symbols that are written and read back are equal, int64, at the estimated bits, up to 1 and a thousandth;
    - the estimated bits are finite, not negative, one number an image that does not depend on the batch;
    - a copy, and a model built from `config()` with the same weights, write the same bytes;
    - `fit` takes symbols in place of what was observed; `build` again forgets them.

    Raises:
        AssertionError: It does not; the message says what it did and what the contract wants.
    """
    with copy_of(model) as part:
        _is_refused_before_it_is_built(part)
        _needs_an_alphabet(part)
        fresh = copy.deepcopy(part)
        part.build(ALPHABET)
        part.observe(_symbols(3, 50, 40))
        for shape in SHAPES:
            _reads_what_it_wrote(part, shape)
        _estimates_bits_of_each_image(part)
        _reads_every_symbol(part)
        _is_built_again(part, fresh)
        _fits(part)
        _forgets_when_it_is_built_again(part, fresh)


def _symbols(*shape: int) -> Tensor:
    return torch.randn(shape).mul(15).abs().long().clamp(max=ALPHABET - 1)


def _is_refused_before_it_is_built(model: EntropyModel) -> None:
    symbols = torch.zeros(1, 1).long()
    sentence = "{} before it knows its alphabet; it must raise ValueError that asks for build(alphabet)"
    require_refusal(lambda: model.bits(symbols), model, sentence.format("estimates bits"))
    require_refusal(lambda: model.write(symbols, ArithmeticEncoder()), model, sentence.format("writes"))
    require_refusal(lambda: model.read(ArithmeticDecoder(b""), (1,)), model, sentence.format("reads"))


def _needs_an_alphabet(model: EntropyModel) -> None:
    require_refusal(lambda: copy.deepcopy(model).build(0), model, "takes an alphabet of 0 symbols; raise ValueError")


@torch.no_grad()
def _reads_what_it_wrote(model: EntropyModel, shape: tuple[int, ...]) -> None:
    symbols = _symbols(1, *shape)
    data = message_of(lambda coder: model.write(symbols, coder))
    decoder = ArithmeticDecoder(data)
    again = model.read(decoder, shape)
    require(again.dtype == torch.int64, model, f"reads symbols of {again.dtype}; they must be torch.int64")
    require_same(again, symbols, model, f"reads other symbols than it wrote, of shape {shape}")
    require_cost(decoder, model.bits(symbols), model)


@torch.no_grad()
def _reads_every_symbol(model: EntropyModel) -> None:
    symbols = torch.arange(ALPHABET)[None]
    data = message_of(lambda coder: model.write(symbols, coder))
    sentence = "does not read back some symbol below the alphabet; one that was never seen must stay possible"
    require_same(model.read(ArithmeticDecoder(data), (ALPHABET,)), symbols, model, sentence)
    require_bits(model.bits(symbols), 1, model)


@torch.no_grad()
def _estimates_bits_of_each_image(model: EntropyModel) -> None:
    symbols = _symbols(5, 4, 4)
    bits = model.bits(symbols)
    require_bits(bits, 5, model)
    require(bits.dtype == torch.float32, model, f"estimates bits in {bits.dtype}; give torch.float32")
    alone = torch.cat([model.bits(image[None]) for image in symbols])
    require_close(bits, alone, model, "estimates other bits for an image beside others in a batch")


@torch.no_grad()
def _is_built_again(model: EntropyModel, fresh: EntropyModel) -> None:
    again = rebuilt(fresh, EntropyModel)
    again.build(ALPHABET)
    again.load_state_dict(model.state_dict())
    symbols = _symbols(1, 30)
    data = message_of(lambda coder: model.write(symbols, coder))
    for other, origin in (
        (copy.deepcopy(model), "a copy of it"),
        (again.eval(), "one that has its config and weights"),
    ):
        same = message_of(lambda coder, other=other: other.write(symbols, coder)) == data
        require(same, model, f"writes other bytes than {origin}, so that its files could not be read")


@torch.no_grad()
def _fits(model: EntropyModel) -> None:
    rare = torch.full((1, 500), ALPHABET - 1)
    before = float(model.bits(rare))
    model.fit(rare)
    after = float(model.bits(rare))
    sentence = (
        f"spends {after:.0f} bits on what it was fitted to, but {before:.0f} before; fit must replace the statistics"
    )
    require(after <= before, model, sentence)


@torch.no_grad()
def _forgets_when_it_is_built_again(model: EntropyModel, fresh: EntropyModel) -> None:
    for each in (model, fresh):
        torch.manual_seed(1)
        each.build(3)
    symbols = torch.tensor([[2, 0, 1, 1]])
    require_close(model.bits(symbols), fresh.bits(symbols), model, "remembers after build what it observed before")
