"""Distances on networks that the user brings."""

import math

import pytest
import torch
from torch import nn

from ulcompress.evaluation.metrics import METRICS, Pair, build
from ulcompress.evaluation.metrics.frechet import cut, frechet_of_points
from ulcompress.evaluation.metrics.weights import hashes
from ulcompress.losses.map_distance import distance_of_maps


@pytest.fixture
def network(two_maps, save_layers, tmp_path):
    save_layers(two_maps, tmp_path / "my-net.safetensors")
    return two_maps


def pairs(count=3, height=140, width=150):
    torch.manual_seed(1)
    originals = torch.rand(count, 3, height, width)
    return [Pair(one, (one + 0.1 * torch.randn_like(one)).clamp(0, 1)) for one in originals]


def test_the_feature_distance_is_the_mean_over_its_maps(network, tmp_path):
    ([metric], missing) = build(["feature-distance-my-net"], tmp_path, "cpu")
    assert not missing and metric.name == "feature-distance-my-net" and "not LPIPS" in metric.protocol
    assert metric.files == hashes(tmp_path / "my-net.safetensors")
    pair = pairs()[0]
    maps = zip(network(pair.restored[None]), network(pair.original[None]), strict=True)
    expected = torch.stack([distance_of_maps(*both) for both in maps]).mean()
    assert metric(pair) == pytest.approx(float(expected), rel=1e-5)
    assert metric(Pair(pair.original, pair.original)) == 0
    assert metric.batch(pairs()) == pytest.approx([metric(pair) for pair in pairs()], rel=1e-4)


@pytest.mark.parametrize("patch", [None, 128])
def test_the_frechet_distance_is_that_of_its_last_map(network, tmp_path, patch):
    ([metric], _) = build([f"frechet-my-net{'' if patch is None else '-128'}"], tmp_path, "cpu")
    found = metric.compute([metric.points(pair) for pair in pairs(12)])

    def points(images):
        return torch.cat(
            [network(cut(one[None], patch) if patch else one[None])[-1].mean((2, 3)) for one in images]
        ).double()

    expected = frechet_of_points(points(p.restored for p in pairs(12)), points(p.original for p in pairs(12)))
    assert found == pytest.approx(expected, rel=1e-4) and found > 0


def test_a_name_without_a_file_is_unknown(network, tmp_path):
    with pytest.raises(
        ValueError,
        match=r"got the metric 'frechet-other'.* or for a NAME\.safetensors or NAME\.pt2 in the folder of weights",
    ):
        build(["frechet-other"], tmp_path, "cpu")
    with pytest.raises(ValueError, match="got the metric 'frechet-my-net'"):
        build(["frechet-my-net"], None, "cpu")
    assert not any("my-net" in name for name in METRICS)


class Named(nn.Module):
    """Maps by name, as torchvision's extractor gives them."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return dict(zip("ab", self.network(images), strict=True))


def test_small_images_have_no_numbers(network, tmp_path):
    (distance, frechet), _ = build(["feature-distance-my-net", "frechet-my-net"], tmp_path, "cpu")
    small = pairs(1, height=60, width=90)[0]
    assert math.isnan(distance(small)) and len(frechet.points(small)["restored"]) == 0


def test_maps_may_have_names(network, save_exported, tmp_path):
    save_exported(Named(network).eval(), tmp_path / "named.pt2")
    names = ["feature-distance-my-net", "feature-distance-named"]
    (one, other), _ = build(names, tmp_path, "cpu", trust_networks=True)
    assert one(pairs()[0]) == pytest.approx(other(pairs()[0]), rel=1e-5) and one(pairs()[0]) > 0


@pytest.mark.parametrize("name", ["feature-distance-net", "frechet-net", "frechet-net-128", "feature-distance-vgg16"])
def test_a_program_is_used_where_networks_are_trusted_alone(two_maps, save_exported, tmp_path, name):
    """Also under the name of a classifier of torchvision's."""
    save_exported(two_maps, tmp_path / "net.pt2")
    save_exported(two_maps, tmp_path / "vgg16.pt2")
    metrics, missing = build([name], tmp_path, "cpu")
    assert not metrics and "can hold code that would run now" in missing[0].reason
    assert "--trust-networks" in missing[0].reason and "\n" not in missing[0].reason
    metrics, missing = build([name], tmp_path, "cpu", trust_networks=True)
    assert not missing and metrics[0].name == name


def test_data_goes_before_a_program(network, save_exported, tmp_path):
    save_exported(network, tmp_path / "my-net.pt2")
    ([metric], _) = build(["frechet-my-net"], tmp_path, "cpu")
    assert metric.files == hashes(tmp_path / "my-net.safetensors")


class Map(nn.Sequential):
    """One map."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3))


class Flat(nn.Sequential):
    """No map, but a vector."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Large(nn.Sequential):
    """Needs images of 93 pixels."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3, stride=4), nn.Conv2d(4, 4, 23))


class Normalised(nn.Sequential):
    """By the statistics of the batch, unless in evaluation mode."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


@pytest.mark.parametrize("name", ["frechet-wrong", "feature-distance-wrong"])
@pytest.mark.parametrize(
    ("make", "options", "told"),
    [
        (None, {}, "export it in evaluation mode, for any number and size"),
        (Map, {"any_size": False}, "for any number and size"),
        (Map, {"any_count": False}, "for any number and size"),
        (Large, {}, "of at least 64 pixels"),
        (Flat, {}, "it returns (3, 4), not maps (B, C, h, w)"),
        (lambda: Normalised().train(), {}, "other maps in a batch than alone"),
    ],
)
def test_a_file_that_cannot_be_used_is_missing(tmp_path, name, make, options, told, save_exported):
    torch.manual_seed(0)
    if make is None:
        (tmp_path / "wrong.pt2").write_bytes(b"no network")
    else:
        network = make()
        save_exported(network if isinstance(network, Normalised) else network.eval(), tmp_path / "wrong.pt2", **options)
    metrics, missing = build([name, "psnr"], tmp_path, "cpu", trust_networks=True)
    assert [metric.name for metric in metrics] == ["psnr"]
    assert "wrong.pt2 cannot be used as a backbone" in missing[0].reason and told in missing[0].reason
