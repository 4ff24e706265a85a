import inspect

import pytest
import torch
from jsonargparse import ArgumentParser

from ulcompress import losses
from ulcompress.losses import DISTS, LPIPS, EitherDistance, ExportedDistance, FeatureDistance, PerceptualDistance
from ulcompress.losses.map_distance import distance_of_maps
from ulcompress.testing import check_distance

SIDE = 64
CASES = {
    "squeezenet1_1 distance": lambda file: FeatureDistance(weights=file("squeezenet1_1"), backbone="squeezenet1_1"),
    "squeezenet1_1 distance with texture 2": lambda file: FeatureDistance(weights=file("squeezenet1_1"), texture=2.0),
    "alexnet distance": lambda file: FeatureDistance(weights=file("alexnet"), backbone="alexnet"),
    "lpips-squeeze": lambda file: LPIPS(weights=file("squeezenet1_1"), net="squeeze"),
    "dists": lambda file: DISTS(weights=file("vgg16")),
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


def test_it_keeps_the_contract(distance):
    check_distance(distance)


def test_features_that_are_all_zero_have_a_finite_gradient():
    """The root of a sum of squares has an infinite gradient there."""
    maps = torch.zeros(4, 5, 3, 3, requires_grad=True)
    (distance_of_maps(*maps.chunk(2)) + distance_of_maps(*maps.chunk(2), 2.0)).sum().backward()
    assert maps.grad.isfinite().all()


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
