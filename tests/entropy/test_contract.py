import inspect

import pytest
import torch

from ulcompress import entropy
from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.entropy import EntropyModel, StaticEntropy, UniformEntropy
from ulcompress.testing import check_entropy_model

CLASSES = [StaticEntropy, UniformEntropy]


@pytest.fixture(params=CLASSES)
def model(request):
    torch.manual_seed(0)
    model = request.param()
    model.build(100)
    model.observe(torch.randn(3, 50, 40).mul(15).abs().long().clamp(max=99))
    return model


def test_every_class_is_here():
    exported = (getattr(entropy, name) for name in entropy.__all__)
    classes = {c for c in exported if inspect.isclass(c) and issubclass(c, EntropyModel)}
    assert {c for c in classes if not inspect.isabstract(c)} == set(CLASSES)


@pytest.mark.parametrize("cls", CLASSES)
def test_it_keeps_the_contract(cls):
    check_entropy_model(cls())


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
