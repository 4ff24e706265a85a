import math

import pytest
import torch

from ulcompress.quantizers import FiniteScalarQuantizer


def identity(*levels):
    """A quantiser whose projections do nothing."""
    quantizer = FiniteScalarQuantizer(levels=levels, channels=len(levels)).eval()
    with torch.no_grad():
        for linear in (quantizer.project_in, quantizer.project_out):
            linear.weight.copy_(torch.eye(len(levels)))
            linear.bias.zero_()
    return quantizer


def as_map(values):
    return values.view(1, 1, 1, -1)


def test_the_default_is_the_papers_for_about_1024_symbols():
    quantizer = FiniteScalarQuantizer()
    assert quantizer.levels.tolist() == [8, 5, 5, 5] and quantizer.size == 1000


@pytest.mark.parametrize("levels", [(), (8, 1), (0,)])
def test_levels_that_say_nothing_are_refused(levels):
    with pytest.raises(ValueError, match="at least 2 levels"):
        FiniteScalarQuantizer(levels=levels)


@torch.no_grad()
def test_every_level_is_reached():
    line = torch.linspace(-20, 20, 200)
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij"))[None]
    assert identity(4, 3)(grid).symbols.unique().tolist() == list(range(12))


@torch.no_grad()
@pytest.mark.parametrize(
    "levels, values",
    [
        (2, [-1, 0]),
        (3, [-1, 0, 1]),
        (4, [-1, -1 / 2, 0, 1 / 2]),
        (5, [-1, -1 / 2, 0, 1 / 2, 1]),
        (8, [-1, -3 / 4, -1 / 2, -1 / 4, 0, 1 / 4, 1 / 2, 3 / 4]),
    ],
)
def test_values_of_the_levels_are_the_papers(levels, values):
    quantized = identity(levels)(as_map(torch.linspace(-20, 20, 4001)))
    torch.testing.assert_close(quantized.features.unique(), torch.tensor(values).float())
    assert quantized.symbols.flatten().tolist() == sorted(quantized.symbols.flatten().tolist())


@pytest.mark.parametrize("levels, height, offset", [(5, 1.998, 0), (8, 3.4965, 0.5)])
def test_the_gradient_is_that_of_the_papers_bound(levels, height, offset):
    given = torch.zeros(1, 1, 1, 1, requires_grad=True)
    features = identity(levels)(given).features
    assert float(features.detach()) == 0
    features.sum().backward()
    slope = height * (1 - math.tanh(math.tan(offset / height)) ** 2) / (levels // 2)
    assert float(given.grad) == pytest.approx(slope)
