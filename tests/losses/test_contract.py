import inspect

import pytest
import torch
from jsonargparse import ArgumentParser

from ulcompress import losses
from ulcompress.losses import LPIPS, EitherDistance, ExportedDistance, FeatureDistance, PerceptualDistance
from ulcompress.losses.map_distance import distance_of_maps

SIDE = 64
CASES = {
    "squeezenet1_1 distance": lambda file: FeatureDistance(weights=file("squeezenet1_1"), backbone="squeezenet1_1"),
    "squeezenet1_1 distance with texture 2": lambda file: FeatureDistance(weights=file("squeezenet1_1"), texture=2.0),
    "alexnet distance": lambda file: FeatureDistance(weights=file("alexnet"), backbone="alexnet"),
    "lpips-squeeze": lambda file: LPIPS(weights=file("squeezenet1_1"), net="squeeze"),
    "two-maps distance": lambda file: ExportedDistance(file=file("two-maps")),
    "squeezenet1_1 distance or two-maps distance": lambda file: EitherDistance(
        first=FeatureDistance(weights=file("squeezenet1_1")), second=ExportedDistance(file=file("two-maps"))
    ),
}


@pytest.fixture(params=CASES)
def distance(request, network_file, one_thread):
    return CASES[request.param](network_file)


def test_every_class_is_here(network_file, one_thread):
    exported = (getattr(losses, name) for name in losses.__all__)
    classes = {c for c in exported if inspect.isclass(c) and issubclass(c, PerceptualDistance)}
    cases = {type(make(network_file)) for make in CASES.values()}
    assert {c for c in classes if not inspect.isabstract(c)} == cases


def test_the_name_says_what_is_measured(distance, request):
    assert distance.name == request.node.callspec.params["distance"]


@torch.no_grad()
def test_symmetric_and_per_image(distance):
    one, other = torch.rand(2, 3, 3, SIDE, SIDE + 16)
    value = distance(one, other)
    assert value.shape == (3,)
    assert (value > 0).all()
    torch.testing.assert_close(distance(other, one), value)
    torch.testing.assert_close(distance(one[1:2], other[1:2]), value[1:2])
    assert distance(one[:1], other[:1]).shape == (1,)


@torch.no_grad()
def test_more_noise_is_further_away(distance):
    image, noise = torch.rand(1, 3, SIDE, SIDE), torch.randn(1, 3, SIDE, SIDE)
    values = [float(distance(image + scale * noise, image)) for scale in (0.01, 0.05, 0.2)]
    assert values == sorted(values)
    assert values[0] < 0.5 * values[2]


def test_zero_with_a_finite_gradient_for_equal_images(distance):
    image = torch.rand(2, 3, SIDE, SIDE, requires_grad=True)
    value = distance(image, image.detach().clone())
    assert value.tolist() == [0, 0]
    value.sum().backward()
    assert image.grad.isfinite().all()


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_constant_images_have_a_finite_gradient(distance, level):
    image = torch.full((1, 3, SIDE, SIDE), level, requires_grad=True)
    distance(image, torch.rand(1, 3, SIDE, SIDE)).sum().backward()
    assert image.grad.isfinite().all()
    assert image.grad.abs().max() > 0
    image.grad = None
    distance(image, torch.full((1, 3, SIDE, SIDE), level)).sum().backward()
    assert image.grad.isfinite().all()


def test_features_that_are_all_zero_have_a_finite_gradient():
    """The root of a sum of squares has an infinite gradient there."""
    maps = torch.zeros(4, 5, 3, 3, requires_grad=True)
    (distance_of_maps(maps) + distance_of_maps(maps, 2.0)).sum().backward()
    assert maps.grad.isfinite().all()


@torch.no_grad()
def test_the_ruler_is_fixed(distance):
    pair = torch.rand(2, 1, 3, SIDE, SIDE)
    before = distance(*pair)
    assert not any(module.training for module in distance.modules())
    assert not any(parameter.requires_grad for parameter in distance.parameters())
    outer = torch.nn.Sequential(distance).train()
    assert outer.training
    assert not any(module.training for module in distance.modules())
    assert torch.equal(distance(*pair), before)


@torch.no_grad()
def test_built_again_from_its_configuration(distance):
    """As an experiment names it: by the class, without its module."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--perceptual", type=PerceptualDistance)
    config = {**distance.config(), "class_path": type(distance).__name__}
    again = parser.instantiate(parser.parse_object({"perceptual": config})).perceptual
    pair = torch.rand(2, 1, 3, SIDE, SIDE)
    assert torch.equal(again(*pair), distance(*pair))
    assert again.state_dict().keys() == distance.state_dict().keys()


@torch.no_grad()
def test_images_of_any_size_are_compared(distance):
    for shape in ((1, 1), (7, 40), (16, 16)):
        one, other = torch.rand(2, 1, 3, *shape)
        assert distance(one, one) == 0
        assert distance(one, other).isfinite() and distance(one, other) > 0
