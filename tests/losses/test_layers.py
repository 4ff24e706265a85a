"""Networks as lists of layers."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from ulcompress.losses.exported import load_maps
from ulcompress.losses.layers import IMAGE, KINDS, LayerNetwork, Layers


@pytest.fixture
def file(tmp_path):
    """A network with a layer of each kind."""
    torch.manual_seed(0)
    layers = Layers()
    hidden = layers.convolve(layers.add("pad", IMAGE, sides=[1, 0, 0, 1], repeat=True), nn.Conv2d(3, 4, 3, stride=2))
    hidden = layers.add("relu", hidden, limit=0.4)
    grouped = layers.convolve(hidden, nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False))
    pooled = layers.add("max", layers.add("join", hidden, grouped), size=3, stride=2)
    last = layers.add("relu", layers.add("add", pooled, layers.add("mean", pooled, size=3)))
    layers.save(tmp_path / "net.safetensors", [hidden, last])
    return tmp_path / "net.safetensors"


def test_the_maps_are_those_of_the_same_layers_in_torch(file):
    weights = load_file(file)
    first, second = (name.removesuffix(".weight") for name in weights if name.endswith(".weight"))
    images = torch.rand(2, 3, 33, 40)

    hidden, last = LayerNetwork(file)(images)

    given = F.pad(images, (1, 0, 0, 1), mode="replicate")
    clipped = F.conv2d(given, weights[f"{first}.weight"], weights[f"{first}.bias"], stride=2).clamp(0, 0.4)
    torch.testing.assert_close(hidden, clipped)
    grouped = F.conv2d(clipped, weights[f"{second}.weight"], padding=1, groups=2)
    pooled = F.max_pool2d(torch.cat([clipped, grouped], 1), 3, 2)
    count = F.avg_pool2d(torch.ones_like(pooled), 3, 1, padding=1)
    torch.testing.assert_close(last, (pooled + F.avg_pool2d(pooled, 3, 1, padding=1) / count).relu())


def test_every_kind_is_here(file):
    assert {layer.kind for layer in LayerNetwork(file).layers} == set(KINDS)


def test_equal_networks_are_equal_files(file, tmp_path):
    before = file.read_bytes()
    layers, conv = Layers(), nn.Conv2d(3, 2, 3)
    for name in ("one", "other"):
        layers = Layers()
        layers.save(tmp_path / name, [layers.convolve(IMAGE, conv)])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes() != before


def test_half_precision_is_read_as_it_is_meant(file):
    images = torch.rand(1, 3, 64, 64)
    layers = json.loads(_metadata(file)["network"])
    expected = LayerNetwork(file)(images)
    save_file({name: value.half() for name, value in load_file(file).items()}, file, {"network": json.dumps(layers)})
    for one, other in zip(LayerNetwork(file)(images), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-2, rtol=1e-2)


def _metadata(file):
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        return opened.metadata()


CONV = {"name": "a", "kind": "conv", "inputs": ["image"]}
JOINED = [{"name": f"j{n}", "kind": "join", "inputs": [f"j{n - 1}" if n else "image"] * 2} for n in range(40)]


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (None, "0 layers and 0 maps"),
        ({"layers": [], "maps": ["image"]}, "0 layers"),
        ({"layers": [CONV], "maps": []}, "0 maps"),
        ({"layers": [CONV], "maps": ["b"]}, "not all names of layers"),
        ({"layers": [CONV | {"kind": "os.system"}], "maps": ["a"]}, "of the kind 'os.system'; known are conv"),
        ({"layers": [CONV | {"inputs": ["b"]}], "maps": ["a"]}, "which are not before it"),
        ({"layers": [CONV, CONV], "maps": ["a"]}, "the layer 'a'"),
        ({"layers": [CONV | {"name": "__class__"}], "maps": ["__class__"]}, ""),
        ({"layers": [CONV | {"command": "rm"}], "maps": ["a"]}, "command"),
        ({"layers": [CONV | {"stride": [0, 0]}], "maps": ["a"]}, ""),
        ({"layers": [CONV | {"padding": [10**6, 10**6]}], "maps": ["a"]}, "more than 67108864"),
        ({"layers": [{"name": "p", "kind": "pad", "inputs": ["image"], "sides": [2**40] * 4}], "maps": ["p"]}, ""),
        ({"layers": JOINED, "maps": ["j39"]}, "more than 67108864"),
        ({"layers": [JOINED[0]] * 5000, "maps": ["j0"]}, "5000 layers"),
        ([1, 2], ""),
        ({"layers": [7], "maps": ["a"]}, ""),
    ],
)
def test_a_file_of_anything_else_is_one_line(tmp_path, network, told):
    path = tmp_path / "net.safetensors"
    metadata = None if network is None else {"network": json.dumps(network)}
    save_file({"a.weight": torch.rand(2, 3, 3, 3)}, path, metadata)
    with pytest.raises(ValueError, match=r"net\.safetensors cannot be used as a backbone") as raised:
        load_maps(path)
    assert told in str(raised.value) and "\n" not in str(raised.value)
