import copy
import inspect
from dataclasses import replace

import pytest
import torch

from ulcompress import bitstream, quantizers
from ulcompress.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.entropy import StaticEntropy, UniformEntropy
from ulcompress.quantizers import FiniteScalarQuantizer, LookupFreeQuantizer, Quantizer, VectorQuantizer
from ulcompress.records import Code

MAKERS = {
    VectorQuantizer: lambda entropy: VectorQuantizer(
        codebook_size=12, channels=6, dimension=4, centred=True, entropy=entropy
    ),
    FiniteScalarQuantizer: lambda entropy: FiniteScalarQuantizer(levels=(4, 3, 2), channels=6, entropy=entropy),
    LookupFreeQuantizer: lambda entropy: LookupFreeQuantizer(bits=5, channels=6, entropy=entropy),
}


@pytest.fixture(params=[StaticEntropy, UniformEntropy])
def entropy(request, one_thread):
    torch.manual_seed(0)
    return request.param()


@pytest.fixture(params=MAKERS, ids=lambda cls: cls.__name__)
def quantizer(request, entropy):
    """A quantiser that has seen some features."""
    quantizer = MAKERS[request.param](entropy)
    for _ in range(3):
        quantizer(features(4))
    return quantizer.eval()


def features(count=1, rows=3, columns=5):
    return 3 * torch.randn(count, 6, rows, columns)


def written(quantizer, symbols):
    coder = ArithmeticEncoder()
    quantizer.write(symbols, coder)
    return coder.finish()


def test_every_class_is_here():
    classes = {c for c in vars(quantizers).values() if inspect.isclass(c) and issubclass(c, Quantizer)}
    assert {c for c in classes if not inspect.isabstract(c)} == set(MAKERS)


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 3])
def test_dequantize_returns_exactly_the_features(quantizer, count):
    quantized = quantizer(features(count))
    assert quantized.features.shape == (count, 6, 3, 5)
    assert not quantized.symbols.is_floating_point()
    assert torch.equal(quantizer.dequantize(quantized.symbols), quantized.features)


@torch.no_grad()
def test_symbols_are_below_the_size(quantizer):
    symbols = quantizer(features(8)).symbols
    assert symbols.min() >= 0 and symbols.max() < quantizer.size
    every = torch.arange(quantizer.size)[None, None]
    assert quantizer.dequantize(every).shape == (1, 6, 1, quantizer.size)


@torch.no_grad()
def test_different_features_give_different_symbols(quantizer):
    assert quantizer(features(8)).symbols.unique().numel() > 4


@torch.no_grad()
@pytest.mark.parametrize("rows, columns", [(1, 1), (3, 5), (20, 20)])
def test_symbols_come_back_at_the_estimated_cost(quantizer, rows, columns):
    quantized = quantizer(features(1, rows, columns))
    data = written(quantizer, quantized.symbols)
    again = quantizer.read(ArithmeticDecoder(data), (rows, columns))
    assert torch.equal(again, quantized.symbols)
    assert quantized.bits.shape == (1,)
    assert abs(8 * len(data) - float(quantized.bits)) <= 9


@torch.no_grad()
def test_bits_are_per_image(quantizer):
    batch = features(3)
    one_by_one = torch.cat([quantizer(image[None]).bits for image in batch])
    torch.testing.assert_close(quantizer(batch).bits, one_by_one)


def test_gradients_pass_straight_through_to_the_features(quantizer):
    given = features(2).requires_grad_()
    quantizer(given).features.square().sum().backward()
    assert given.grad.isfinite().all()
    assert (given.grad.abs().sum(1) > 0).all(), "every position gets a gradient"
    for name, parameter in quantizer.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_losses_are_finite_scalars_whose_gradient_reaches_the_features(quantizer):
    for name in quantizer(features(2)).losses:
        given = (0.1 * features(2)).requires_grad_()
        value = quantizer(given).losses[name]
        assert value.shape == () and value.isfinite()
        value.backward()
        assert given.grad.isfinite().all() and given.grad.abs().max() > 0, name


def test_evaluation_changes_no_state(quantizer):
    before = copy.deepcopy(quantizer.state_dict())
    quantizer(features(4))
    after = quantizer.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_training_counts_the_symbols():
    quantizer = MAKERS[FiniteScalarQuantizer](StaticEntropy())
    symbols = quantizer(features(4)).symbols
    expected = 1 + torch.bincount(symbols.flatten(), minlength=24)
    assert torch.equal(quantizer.entropy.counts, expected)


@torch.no_grad()
def test_a_copy_with_the_same_weights_reads_the_same(quantizer):
    other = MAKERS[type(quantizer)](type(quantizer.entropy)())
    other.load_state_dict(quantizer.state_dict())
    quantized = quantizer(features())
    data = written(quantizer, quantized.symbols)
    symbols = other.eval().read(ArithmeticDecoder(data), (3, 5))
    assert torch.equal(other.dequantize(symbols), quantized.features)


@torch.no_grad()
def test_the_stream_can_be_read_with_tables_alone(quantizer):
    quantized = quantizer(features())
    code = Code(height=40, width=80, symbols=quantized.symbols, sides={})
    data = bitstream.write(code, conditioning={}, quantizer=quantizer, fingerprint=b"abc")
    spec = replace(quantizer.stream(), stride=16)
    bits = bitstream.stream_bits(data, [spec], lambda name: quantizer.state_dict()[name].numpy())
    assert bits == {"spatial": pytest.approx(float(quantized.bits), rel=1e-4)}
