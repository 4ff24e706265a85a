"""Distances on a network that torch.export saved."""

import copy

import pytest
import torch

from ulcompress.losses import EitherDistance, ExportedDistance, FeatureDistance
from ulcompress.losses.map_distance import distance_of_maps


def test_equals_its_definition_and_passes_gradients(two_maps, network_file):
    distance = ExportedDistance(file=network_file("two-maps"))
    image, reference = torch.rand(2, 1, 3, 70, 80)
    image.requires_grad_()
    found = distance(image, reference)
    maps = zip(two_maps(image), two_maps(reference), strict=True)
    expected = torch.stack([distance_of_maps(torch.cat(pair)) for pair in maps]).mean(0)
    torch.testing.assert_close(found, expected)
    (gradient,), (wanted,) = torch.autograd.grad(found, image), torch.autograd.grad(expected, image)
    # Where features nearly vanish, a rounding error of theirs is a large one of their direction.
    assert (gradient - wanted).norm() < 1e-2 * wanted.norm() and wanted.norm() > 0


@torch.no_grad()
def test_texture_and_shift_are_those_of_the_feature_distance(two_maps, network_file):
    file = network_file("two-maps")
    pair = torch.rand(2, 1, 3, 70, 80)
    plain, textured = ExportedDistance(file=file), ExportedDistance(file=file, texture=3.0)
    maps = [distance_of_maps(each, 3.0) for each in two_maps(torch.cat(tuple(pair)))]
    torch.testing.assert_close(textured(*pair), torch.stack(maps).mean(0))
    shifted = ExportedDistance(file=file, shift=1)
    possible = {round(float(plain(*pair[..., y:, x:])), 5) for y in range(2) for x in range(2)}
    assert {round(float(shifted(*pair)), 5) for _ in range(40)} == possible and len(possible) == 4
    for name in ("texture", "shift"):
        with pytest.raises(ValueError, match=f"{name} must be at least 0, got -1"):
            ExportedDistance(file=file, **{name: -1})


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"no file '.*net\.pt2'; give a network that torch\.export\.save wrote"):
        ExportedDistance(file=str(tmp_path / "net.pt2"))


def test_the_network_is_neither_saved_nor_trained(network_file):
    """A checkpoint holds the codec; the network stays in its file."""
    distance = ExportedDistance(file=network_file("two-maps"))
    assert not distance.state_dict() and not list(distance.parameters())
    distance(*torch.rand(2, 1, 3, 70, 80).requires_grad_()).sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in distance.network._network[0].parameters())


def test_copies_measure_the_same(network_file):
    distance = ExportedDistance(file=network_file("two-maps"))
    pair = torch.rand(2, 1, 3, 70, 80)
    assert torch.equal(copy.deepcopy(distance)(*pair), distance(*pair))


def test_one_of_two_is_drawn_for_a_step_and_both_count_without_gradients(network_file):
    first = FeatureDistance(weights=network_file("squeezenet1_1"))
    second = ExportedDistance(file=network_file("two-maps"))
    either = EitherDistance(first=first, second=second)
    image, reference = torch.rand(2, 1, 3, 70, 80)
    values = [part(image, reference).item() for part in (first, second)]
    image.requires_grad_()
    drawn = [either(image, reference).item() for _ in range(20)]
    assert all(min(abs(value - each) for each in values) < 1e-5 for value in drawn)
    assert all(any(abs(value - each) < 1e-5 for value in drawn) for each in values)
    with torch.no_grad():
        assert float(either(image, reference)) == pytest.approx(sum(values) / 2, rel=1e-5)
