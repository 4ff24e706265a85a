import copy

import pytest
import torch
from torch import nn

from ulcompress.entropy.exact import ACTIVATION_BITS, LARGEST, Parallel, exact, on_grid


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(nn.ConvTranspose2d(6, 12, 5, stride=2, padding=2, output_padding=1), nn.LeakyReLU(inplace=True)),
        nn.Conv2d(12, 16, 3, padding=1, groups=2),
        nn.PixelShuffle(2),
        nn.ReLU(),
        nn.Identity(),
        Parallel(nn.Conv2d(4, 3, 3, padding=1), nn.Sequential(nn.Conv2d(4, 2, 1, bias=False), nn.ReLU())),
    )


def integers(*shape):
    return torch.randint(-20, 21, shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_it_agrees_with_the_floats_within_the_rounding():
    net, x = network(), integers(2, 6, 3, 5)
    result = exact(net, x)
    assert result.dtype == torch.float64
    assert result.shape == (2, 5, 12, 20)
    assert torch.equal(on_grid(result), result)
    torch.testing.assert_close(result, net(x.float()).double(), atol=0.03, rtol=0)


def test_threads_and_the_place_in_a_batch_change_no_bit(threads):
    net, x = network(), integers(3, 6, 9, 8)
    threads(1)
    alone = torch.cat([exact(net, image[None]) for image in x])
    threads(2)
    assert torch.equal(exact(net, x), alone)


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_the_order_of_a_sum_changes_no_bit(kind, threads):
    """In single precision, which the same sums are taken in elsewhere, it does."""
    threads(1)
    torch.manual_seed(0)
    layer, x = kind(300, 5, 3, padding=1), torch.randn(1, 300, 6, 7)
    order = torch.randperm(300)
    other = copy.deepcopy(layer)
    other.weight.data = layer.weight.data[order] if kind is nn.ConvTranspose2d else layer.weight.data[:, order]
    assert torch.equal(exact(other, x[:, order]), exact(layer, x))
    assert not torch.equal(other(x[:, order]), layer(x))


def test_weights_count_as_they_are_saved():
    net, x = network(), integers(1, 6, 2, 2)
    saved = copy.deepcopy(net).half().float()
    assert not torch.equal(saved[0][0].weight, net[0][0].weight)
    assert torch.equal(exact(saved, x), exact(net, x))


def test_numbers_beyond_the_largest_are_clamped():
    layer = nn.Conv2d(1, 1, 1)
    nn.init.constant_(layer.weight, 2.0)
    nn.init.zeros_(layer.bias)
    x = torch.tensor([3e6, -3e6, 2.0**14, 1.0])[:, None, None, None]
    assert exact(layer, x).flatten().tolist() == [LARGEST, -LARGEST, LARGEST, 2.0]


def test_negative_slopes_are_rounded_to_the_grid():
    result = exact(nn.LeakyReLU(0.3), torch.tensor([[[[-1.0, 1.0]]]]))
    assert result.flatten().tolist() == [round(-0.3 * 2**ACTIVATION_BITS) / 2**ACTIVATION_BITS, 1.0]


def test_other_layers_are_refused():
    with pytest.raises(ValueError, match="GELU cannot be evaluated exactly; such a network may have Conv2d"):
        exact(nn.Sequential(nn.Conv2d(1, 1, 1), nn.GELU()), torch.zeros(1, 1, 1, 1))


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_weights_that_are_too_large_are_refused(kind):
    layer = kind(100, 2, 1)
    nn.init.constant_(layer.weight, 400.0)
    with pytest.raises(ValueError, match=f"the weights of a {kind.__name__} are too large for exact sums"):
        exact(layer, torch.zeros(1, 100, 1, 1))
