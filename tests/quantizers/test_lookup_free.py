import itertools
import math

import pytest
import torch

from ulcompress.entropy import UniformEntropy
from ulcompress.quantizers import LookupFreeQuantizer, lookup_free


@pytest.fixture(autouse=True)
def seeded(one_thread):
    torch.manual_seed(0)


def identity(bits, **arguments):
    """A quantiser whose projections do nothing."""
    quantizer = LookupFreeQuantizer(bits=bits, channels=bits, **arguments)
    with torch.no_grad():
        for linear in (quantizer.project_in, quantizer.project_out):
            linear.weight.copy_(torch.eye(bits))
            linear.bias.zero_()
    return quantizer


def as_map(vectors):
    return vectors.T[None, :, None]


@torch.no_grad()
def test_signs_are_the_digits_of_the_symbol_the_first_the_least():
    vectors = torch.tensor([[-2.0, -0.1, -1], [0.5, -3, -1], [-1, 2, -1], [1, 1, 3], [0, 0, 0.1]])
    quantized = identity(3)(as_map(vectors))
    assert quantized.symbols.tolist() == [[[0, 1, 2, 7, 4]]]
    assert torch.equal(quantized.features[0, :, 0].T, torch.where(vectors > 0, 1.0, -1.0))
    distance = (vectors.abs() - 1).square().mean()
    torch.testing.assert_close(quantized.losses["commitment"], distance)


def entropy_by_definition(vectors, inverse_temperature, diversity):
    codes = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=vectors.shape[1])))
    p = torch.softmax(-inverse_temperature * torch.cdist(vectors, codes).square(), dim=-1)
    each = torch.special.entr(p).sum(-1).mean()
    return each - diversity * torch.special.entr(p.mean(0)).sum()


@pytest.mark.parametrize("bits", [1, 2, 5])
@pytest.mark.parametrize("inverse_temperature, diversity", [(0.3, 1.0), (1.0, 0.5), (2.0, 2.0)])
def test_the_entropy_term_and_its_gradient_are_those_of_the_definition(
    bits, inverse_temperature, diversity, monkeypatch
):
    monkeypatch.setattr(lookup_free, "ROWS", 7)
    given = torch.randn(40, bits).requires_grad_()
    quantizer = identity(bits, inverse_temperature=inverse_temperature, diversity=diversity)
    value = quantizer(as_map(given)).losses["lookup_entropy"]
    (gradient,) = torch.autograd.grad(value, given)
    expected = entropy_by_definition(given, inverse_temperature, diversity)
    (expected_gradient,) = torch.autograd.grad(expected, given)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-6, rtol=1e-4)


@torch.no_grad()
def test_the_entropy_term_is_least_where_choices_are_clear_and_all_codes_are_used():
    codes = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=4)))
    quantizer = identity(4, inverse_temperature=100.0)

    def term(vectors):
        return float(quantizer(as_map(vectors)).losses["lookup_entropy"])

    assert term(codes) == pytest.approx(-math.log(16))
    assert term(codes[:1]) == pytest.approx(0, abs=1e-6)
    # Bits that are even on their own but always alike use two codes, not sixteen.
    assert term(codes[[0, -1]]) == pytest.approx(-math.log(2))


def test_vectors_far_from_zero_give_finite_gradients():
    given = (1000 * torch.randn(20, 4)).requires_grad_()
    identity(4, inverse_temperature=100.0)(as_map(given)).losses["lookup_entropy"].backward()
    assert given.grad.isfinite().all()


def test_the_largest_alphabet_needs_little_memory():
    quantizer = LookupFreeQuantizer(bits=18, channels=4, entropy=UniformEntropy())
    assert quantizer.size == 2**18
    elements = []

    def packed(tensor):
        elements.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(packed, lambda tensor: tensor):
        quantizer(torch.randn(1, 4, 16, 16)).losses["lookup_entropy"].backward()
    assert max(elements) <= 2**18, "no vector is compared with every code"


@pytest.mark.parametrize("bits", [0, 19])
def test_bits_out_of_range_are_refused(bits):
    with pytest.raises(ValueError, match=f"bits={bits} is out of range; give 1 to 18"):
        LookupFreeQuantizer(bits=bits)
