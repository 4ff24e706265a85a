import copy

import pytest
import torch

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.entropy import StaticEntropy, UniformEntropy

CLASSES = [StaticEntropy, UniformEntropy]


@pytest.fixture(params=CLASSES)
def model(request):
    torch.manual_seed(0)
    model = request.param()
    model.build(100)
    model.observe(torch.randn(3, 50, 40).mul(15).abs().long().clamp(max=99))
    return model


def symbols_like(*shape):
    return torch.randn(shape).mul(15).abs().long().clamp(max=99)


@pytest.mark.parametrize("shape", [(7,), (4, 6), (2, 3, 4), (0,)])
def test_symbols_come_back_at_the_estimated_cost(model, shape):
    symbols = symbols_like(1, *shape)
    encoder = ArithmeticEncoder()
    model.write(symbols, encoder)
    data = encoder.finish()
    again = model.read(ArithmeticDecoder(data), shape)
    assert again.dtype == torch.int64
    assert torch.equal(again, symbols)
    assert abs(8 * len(data) - float(model.bits(symbols))) <= 9


def test_bits_are_per_image(model):
    symbols = symbols_like(5, 4, 4)
    bits = model.bits(symbols)
    assert bits.shape == (5,)
    assert bits.dtype == torch.float32
    assert torch.allclose(bits, torch.cat([model.bits(image[None]) for image in symbols]))


def test_a_copy_and_a_rebuilt_model_write_the_same_bytes(model):
    rebuilt = type(model)(**model.arguments())
    rebuilt.build(100)
    rebuilt.load_state_dict(model.state_dict())
    symbols = symbols_like(1, 30)
    messages = set()
    for other in (model, copy.deepcopy(model), rebuilt):
        encoder = ArithmeticEncoder()
        other.write(symbols, encoder)
        messages.add(encoder.finish())
    assert len(messages) == 1


def test_building_again_forgets(model):
    model.build(3)
    assert float(model.bits(torch.tensor([[2]]))) == pytest.approx(1.585, abs=1e-3)


@pytest.mark.parametrize("cls", CLASSES)
def test_use_before_build_is_refused(cls):
    symbols, model = torch.zeros(1, 1).long(), cls()
    for use in (
        lambda: model.bits(symbols),
        lambda: model.write(symbols, ArithmeticEncoder()),
        lambda: model.read(ArithmeticDecoder(b""), (1,)),
    ):
        with pytest.raises(ValueError, match=r"call build\(alphabet\) first"):
            use()


@pytest.mark.parametrize("cls", CLASSES)
def test_alphabet_needs_a_symbol(cls):
    with pytest.raises(ValueError, match="at least 1"):
        cls().build(0)
