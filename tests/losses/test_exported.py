"""Distances on a network from a file: as a list of layers, and as torch.export saves it."""

import copy
import json
import pickle

import pytest
import torch
from jsonargparse import ArgumentParser

from ulcompress.losses import (
    EitherDistance,
    ExportedDistance,
    FeatureDiscriminator,
    FeatureDistance,
    PerceptualDistance,
)
from ulcompress.losses.map_distance import distance_of_maps


def test_equals_its_definition_and_passes_gradients(two_maps, network_file):
    distance = ExportedDistance(file=network_file("two-maps"))
    image, reference = torch.rand(2, 1, 3, 70, 80)
    image.requires_grad_()
    found = distance(image, reference)
    maps = zip(two_maps(image), two_maps(reference), strict=True)
    expected = torch.stack([distance_of_maps(*pair) for pair in maps]).mean(0)
    torch.testing.assert_close(found, expected)
    (gradient,), (wanted,) = torch.autograd.grad(found, image), torch.autograd.grad(expected, image)
    # Where features nearly vanish, a rounding error of theirs is a large one of their direction.
    assert (gradient - wanted).norm() < 1e-2 * wanted.norm() and wanted.norm() > 0


@torch.no_grad()
def test_texture_and_shift_are_those_of_the_feature_distance(two_maps, network_file):
    file = network_file("two-maps")
    pair = torch.rand(2, 1, 3, 70, 80)
    plain, textured = ExportedDistance(file=file), ExportedDistance(file=file, texture=3.0)
    maps = [distance_of_maps(*each.chunk(2), 3.0) for each in two_maps(torch.cat(tuple(pair)))]
    torch.testing.assert_close(textured(*pair), torch.stack(maps).mean(0))
    shifted = ExportedDistance(file=file, shift=1)
    possible = {round(float(plain(*pair[..., y:, x:])), 5) for y in range(2) for x in range(2)}
    assert {round(float(shifted(*pair)), 5) for _ in range(40)} == possible and len(possible) == 4
    for name in ("texture", "shift"):
        with pytest.raises(ValueError, match=f"{name} must be at least 0, got -1"):
            ExportedDistance(file=file, **{name: -1})


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"no file '.*net\.pt2'; give a network as experiments/networks\.py writes it"):
        ExportedDistance(file=str(tmp_path / "net.pt2"))


@pytest.fixture(params=["layers", "program"])
def distance(request, two_maps, save_layers, save_exported, tmp_path):
    """One on the same network from either file."""
    if request.param == "layers":
        return ExportedDistance(file=save_layers(two_maps, tmp_path / "net.safetensors"))
    return ExportedDistance(file=save_exported(two_maps, tmp_path / "net.pt2"), trust=True)


def test_the_network_is_neither_saved_nor_trained(distance):
    """A checkpoint holds the codec; the network stays in its file."""
    assert not distance.state_dict() and not list(distance.parameters())
    image = torch.rand(1, 3, 70, 80, requires_grad=True)
    distance(image, torch.rand(1, 3, 70, 80)).sum().backward()
    assert image.grad.abs().sum() > 0
    assert all(not weight.requires_grad for weight in distance.buffers())


@torch.no_grad()
def test_both_files_of_a_network_measure_the_same(distance, two_maps):
    pair = torch.rand(2, 1, 3, 70, 80)
    maps = [distance_of_maps(*each.chunk(2)) for each in two_maps(torch.cat(tuple(pair)))]
    torch.testing.assert_close(distance(*pair), torch.stack(maps).mean(0))


class Mark:
    """Leaves a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_program_is_read_where_it_is_trusted_alone(two_maps, save_exported, tmp_path):
    file = save_exported(two_maps, tmp_path / "net.pt2")
    with pytest.raises(ValueError, match=r"net\.pt2 can hold code that would run now; .*--trust-networks") as raised:
        ExportedDistance(file=file)
    assert "\n" not in str(raised.value)
    assert ExportedDistance(file=file, trust=True).name == "net distance"


@pytest.mark.parametrize("name", ["net.pt2", "net.safetensors", "net.pt", "net"])
def test_nothing_is_unpickled_unasked(tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps(Mark(tmp_path / "ran")))
    with pytest.raises(ValueError, match=r"net.* (can hold code|cannot be used as a backbone)"):
        ExportedDistance(file=str(tmp_path / name))
    assert not (tmp_path / "ran").exists()


class Casting(torch.nn.Module):
    """Insists on floats, as what is exported with a cast does."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return [each.float() for each in self.network(images)]


@pytest.mark.parametrize("casting", [False, True])
def test_mixed_precision_is_for_those_that_bear_it(two_maps, save_exported, tmp_path, casting):
    network = Casting(two_maps).eval() if casting else two_maps
    distance = ExportedDistance(file=save_exported(network, tmp_path / "net.pt2"), trust=True)
    pair = torch.rand(2, 1, 3, 70, 80)
    exact = distance(*pair)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = distance(*pair)
    assert torch.equal(mixed, exact) == casting
    torch.testing.assert_close(mixed, exact, rtol=0.05, atol=0)
    torch.testing.assert_close(distance(*pair.bfloat16()), exact, rtol=0.05, atol=0)


def test_weights_that_an_evaluation_moves_serve_trainings_too(two_maps, save_exported, tmp_path):
    maps = ExportedDistance(file=save_exported(two_maps, tmp_path / "net.pt2"), trust=True).network
    with torch.inference_mode():
        maps._go_to(torch.device("meta"))
    image = torch.rand(1, 3, 70, 80, device="meta", requires_grad=True)
    found = maps._network[0](image)
    assert all(each.device.type == "meta" for each in found)
    found[-1].sum().backward()
    assert image.grad.shape == image.shape


@torch.no_grad()
def test_small_images_are_enlarged_for_it(network_file):
    one, other = torch.rand(2, 1, 3, 9, 40)
    for shift in (0, 5):
        distance = ExportedDistance(file=network_file("two-maps"), shift=shift)
        assert distance(one, one) == 0 < distance(one, other)


def test_building_one_draws_no_random_numbers(network_file):
    file = network_file("two-maps")
    state = torch.get_rng_state()
    torch.manual_seed(0)
    first = FeatureDiscriminator(network=ExportedDistance(file=file, shift=9))
    torch.manual_seed(1)
    second = FeatureDiscriminator(network=ExportedDistance(file=file, shift=9))
    assert first.sizes == second.sizes
    torch.set_rng_state(state)
    ExportedDistance(file=file)
    assert torch.equal(torch.get_rng_state(), state)


def test_options_reach_the_networks_of_a_pair(network_file):
    """As a recipe leaves the files to the command line."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--perceptual", type=PerceptualDistance)
    given = {"class_path": "EitherDistance", "init_args": {"first": "FeatureDistance", "second": "ExportedDistance"}}
    files = ["--perceptual.first.weights", network_file("squeezenet1_1"), "--perceptual.second.file"]
    config = parser.parse_args(["--perceptual", json.dumps(given), *files, network_file("two-maps")])
    built = parser.instantiate(config).perceptual
    assert built.name == "squeezenet1_1 distance or two-maps distance"


def test_copies_measure_the_same(distance):
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
