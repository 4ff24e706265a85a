import inspect
from functools import partial

import pytest
import torch

from ulcompress import quantizers
from ulcompress.coding import bitstream
from ulcompress.entropy import ContextModel, StaticEntropy, UniformEntropy
from ulcompress.learned.compressai import CompressAIModel
from ulcompress.quantizers import (
    FiniteScalarQuantizer,
    HyperpriorQuantizer,
    LookupFreeQuantizer,
    Quantizer,
    ResidualQuantizer,
    StringQuantizer,
    VectorQuantizer,
)
from ulcompress.records import Code
from ulcompress.testing import check_quantizer

INDEXED = {
    VectorQuantizer: lambda entropy: VectorQuantizer(
        codebook_size=12, channels=6, dimension=4, centred=True, entropy=entropy()
    ),
    FiniteScalarQuantizer: lambda entropy: FiniteScalarQuantizer(levels=(4, 3, 2), channels=6, entropy=entropy()),
    LookupFreeQuantizer: lambda entropy: LookupFreeQuantizer(bits=5, channels=6, entropy=entropy()),
}
"""Quantisers whose symbols are indices, (B, h, w)."""


def context(words=0):
    """A context model that has something to tell at once."""
    model = ContextModel(width=8, words=words)
    build = model.build

    def built(stages):
        build(stages)
        for head in model.heads:
            torch.nn.init.normal_(head.weight, std=2.0)

    model.build = built
    return model


def with_captions():
    """A context model that reads captions."""
    return context(words=32)


OTHERS = {
    HyperpriorQuantizer: lambda: HyperpriorQuantizer(model=CompressAIModel(sizes=(8, 6))),
    ResidualQuantizer: lambda: ResidualQuantizer(codebook_sizes=[7, 5, 12], blocks=[2, 1, 1], channels=6, dimension=4),
    StringQuantizer: lambda: StringQuantizer(model=CompressAIModel(name="bmshj2018-factorized", sizes=(8, 6))),
}
"""Quantisers that bring their own entropy model, and whose symbols are records."""
INDEXED_MAKERS = {
    f"{cls.__name__}-{entropy.__name__}": partial(make, entropy)
    for cls, make in INDEXED.items()
    for entropy in (StaticEntropy, UniformEntropy, context)
} | {"VectorQuantizer-with_captions": partial(INDEXED[VectorQuantizer], with_captions)}
OTHER_MAKERS = {cls.__name__: make for cls, make in OTHERS.items()} | {
    "ResidualQuantizer-ContextModel": lambda: ResidualQuantizer(
        codebook_sizes=[7, 5, 12], blocks=[2, 1, 1], channels=6, dimension=4, entropy=context(), rate_weight=0.02
    ),
    "ResidualQuantizer-with_captions": lambda: ResidualQuantizer(
        codebook_sizes=[7, 5], blocks=[2, 1], channels=6, dimension=4, entropy=with_captions(), rate_weight=0.02
    ),
    "ResidualQuantizer-distances": lambda: ResidualQuantizer(
        codebook_sizes=[7, 5], channels=6, dimension=4, unit_length=False
    ),
}
MAKERS = INDEXED_MAKERS | OTHER_MAKERS


def seen(make):
    """A quantiser that has seen some features."""
    torch.manual_seed(0)
    quantizer = make()
    for _ in range(3):
        quantizer(features(4))
    return quantizer.eval()


def maker(request, makers):
    """Return the maker of a fixture's parameter; the test is skipped where its package does not exist."""
    if request.param == "StringQuantizer":
        request.getfixturevalue("compressai")
    return makers[request.param]


@pytest.fixture(params=MAKERS)
def make(request, one_thread):
    return maker(request, MAKERS)


@pytest.fixture(params=INDEXED_MAKERS)
def indexed(request, one_thread):
    return seen(INDEXED_MAKERS[request.param])


@pytest.fixture(params=OTHER_MAKERS)
def other(request, one_thread):
    return seen(maker(request, OTHER_MAKERS))


def features(count=1, rows=3, columns=5):
    return 3 * torch.randn(count, 6, rows, columns)


def test_every_class_is_here():
    exported = (getattr(quantizers, name) for name in quantizers.__all__)
    classes = {c for c in exported if inspect.isclass(c) and issubclass(c, Quantizer)}
    assert {c for c in classes if not inspect.isabstract(c)} == set(INDEXED) | set(OTHERS)


def test_it_keeps_the_contract(make):
    torch.manual_seed(0)
    check_quantizer(make())


@torch.no_grad()
def test_indices_are_below_the_size(indexed):
    symbols = indexed(features(8)).symbols
    assert symbols.dtype == torch.int64
    assert symbols.min() >= 0 and symbols.max() < indexed.size
    every = torch.arange(indexed.size)[None, None]
    assert indexed.dequantize(every).shape == (1, 6, 1, indexed.size)


@torch.no_grad()
def test_different_features_give_different_indices(indexed):
    assert indexed(features(8)).symbols.unique().numel() > 4


def test_gradients_reach_every_weight_of_a_codebook(indexed):
    indexed(features(2)).features.square().sum().backward()
    for name, parameter in indexed.named_parameters():
        if name.startswith("entropy."):  # which learns from the rate
            continue
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_losses_are_finite_scalars_whose_gradient_reaches_the_features(indexed):
    for name in indexed(features(2)).losses:
        given = (0.1 * features(2)).requires_grad_()
        value = indexed(given).losses[name]
        assert value.shape == () and value.isfinite()
        value.backward()
        assert given.grad.isfinite().all() and given.grad.abs().max() > 0, name


def test_training_counts_the_symbols():
    quantizer = INDEXED[FiniteScalarQuantizer](StaticEntropy)
    symbols = quantizer(features(4)).symbols
    expected = 1 + torch.bincount(symbols.flatten(), minlength=24)
    assert torch.equal(quantizer.entropy.counts, expected)


@torch.no_grad()
def test_the_bits_of_the_stream_are_those_of_the_symbols(indexed):
    quantized = indexed(features())
    code = Code(height=40, width=80, symbols=quantized.symbols, sides={})
    data = bitstream.write(code, conditioning={}, quantizer=indexed, fingerprint=b"abc")
    bits = bitstream.stream_bits(data, conditioning={}, quantizer=indexed, stride=16)
    assert bits == {"spatial": pytest.approx(float(quantized.bits), rel=1e-4)}


@torch.no_grad()
@pytest.mark.parametrize(
    "kind, arguments, encoder",
    [
        (
            ResidualQuantizer,
            {"codebook_sizes": [7, 5, 12], "blocks": [2, 1, 1]},
            {"decay": 0.5, "revive_below": 0.1, "kmeans_iterations": 1, "rate_weight": 0.3, "candidates": 1},
        ),
        (
            VectorQuantizer,
            {"codebook_size": 12},
            {"decay": 0.5, "revive_below": 0.1, "kmeans_iterations": 1, "rotation_trick": True},
        ),
    ],
)
def test_files_do_not_depend_on_what_the_encoder_alone_uses(kind, arguments, encoder):
    arguments = {**arguments, "channels": 6, "dimension": 4}
    quantizer, other = seen(lambda: kind(**arguments)).eval(), kind(**arguments, **encoder).eval()
    assert kind.encoder_arguments == encoder.keys()
    other.load_state_dict(quantizer.state_dict())
    quantized = quantizer(features())
    code = Code(40, 80, quantized.symbols, {})
    data = bitstream.write(code, conditioning={}, quantizer=quantizer, fingerprint=b"abc")
    read = bitstream.read(data, conditioning={}, quantizer=other, stride=16, fingerprint=b"abc")
    assert torch.equal(other.dequantize(read.symbols), quantized.features)
