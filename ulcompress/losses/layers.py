"""Convolutional networks as data: a list of layers and their weights in one safetensors file, which holds no code.

The file's metadata has one entry, `network`, in JSON: `layers`, each with `name`, `kind` (a key of `KINDS`), the names
of its `inputs` (`image` is that of the network) and its options; and `maps`, the names of the layers whose outputs are
compared. The weights of a convolution are the tensors `NAME.weight` and, where there is one, `NAME.bias`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from ulcompress.files import write_whole

ENTRY = "network"
IMAGE = "image"
MOST_LAYERS = 4096
MOST_NUMBERS = 1 << 26
"""The most values of one layer's output for an image of 128 x 128 pixels, so that no small file fills the memory."""


@dataclass(frozen=True)
class Layer:
    """One operation on maps, (B, C, h, w)."""

    name: str
    kind: str
    """A key of `KINDS`."""
    inputs: Sequence[str]
    options: Mapping[str, Any] = field(default_factory=dict)


class Layers:
    """Builds a network layer by layer and writes its file."""

    def __init__(self):
        self._layers: list[Layer] = []
        self._tensors: dict[str, Tensor] = {}

    def add(self, kind: str, *inputs: str, **options: Any) -> str:
        """Append a layer of one of `KINDS`; return its name."""
        self._layers.append(Layer(f"{kind}{len(self._layers)}", kind, inputs, options))
        return self._layers[-1].name

    def convolve(self, source: str, layer: nn.Conv2d) -> str:
        """Append a convolution of the layer `source` by torch's weights, stride and padding; return its name."""
        name = self.add("conv", source, stride=list(layer.stride), padding=list(layer.padding))
        # Copied: several layers may share a tensor, which safetensors refuses.
        self._tensors |= {f"{name}.{key}": value.clone().contiguous() for key, value in layer.state_dict().items()}
        return name

    def last_of_each_resolution(self, kind: str) -> list[str]:
        """Return the name of the last layer of a kind at each resolution, finest first."""
        halvings, last = {IMAGE: 0}, {}
        for layer in self._layers:
            stride = layer.options.get("stride", 1)
            halvings[layer.name] = halvings[layer.inputs[0]] + (stride in (2, [2, 2]))
            if layer.kind == kind:
                last[halvings[layer.name]] = layer.name
        return list(last.values())

    def save(self, path: str | Path, maps: Sequence[str]) -> None:
        """Write the network that returns the outputs of the layers of these names."""
        layers = [
            {"name": layer.name, "kind": layer.kind, "inputs": list(layer.inputs), **layer.options}
            for layer in self._layers
        ]
        write_whole(path, save(self._tensors, {ENTRY: json.dumps({"layers": layers, "maps": list(maps)})}))


class LayerNetwork(nn.Module):
    """A network that is read from such a file; it maps RGB in [0, 1], (B, 3, H, W), to feature maps, (B, C, h, w) each.

    Its weights are frozen, and no checkpoint contains them.
    """

    def __init__(self, path: str | Path):
        """Read the file.

        Raises:
            Exception: The file holds no such network; the type depends on what is wrong.
        """
        super().__init__()
        with safe_open(path, "pt") as file:
            network = json.loads((file.metadata() or {}).get(ENTRY, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dictionary
        self.layers = [_layer(entry) for entry in network.get("layers", ())]
        self.maps: list[str] = list(network.get("maps", ()))
        _check_names(self.layers, self.maps)
        for name, tensor in tensors.items():
            self.register_buffer(name.replace(".", "_"), tensor.float(), persistent=False)
        last = {name: layer.name for layer in self.layers for name in layer.inputs if name not in self.maps}
        self._finished = {
            layer.name: [name for name, user in last.items() if user == layer.name] for layer in self.layers
        }
        copy.deepcopy(self).to("meta")._evaluate(torch.empty(1, 3, 128, 128, device="meta"), most=MOST_NUMBERS)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps, in the order of the file."""
        return self._evaluate(images.float())

    def _evaluate(self, images: Tensor, most: float = inf) -> list[Tensor]:
        """Return the maps; raises ValueError for a layer whose output has more than `most` values."""
        values = {IMAGE: images}
        for layer in self.layers:
            inputs = [values[name] for name in layer.inputs]
            output = values[layer.name] = KINDS[layer.kind](*inputs, **self._weights(layer), **layer.options)
            if output.numel() > most:
                raise ValueError(
                    f"the output {tuple(output.shape)} of the layer {layer.name!r} has more than {most} values"
                )
            for name in self._finished[layer.name]:
                del values[name]
        return [values[name] for name in self.maps]

    def _weights(self, layer: Layer) -> dict[str, Tensor]:
        if layer.kind != "conv":
            return {}
        return {key: getattr(self, f"{layer.name}_{key}", None) for key in ("weight", "bias")}  # pyright: ignore


def _layer(entry: Mapping[str, Any]) -> Layer:
    options = {key: value for key, value in entry.items() if key not in ("name", "kind", "inputs")}
    return Layer(entry["name"], entry["kind"], entry["inputs"], options)


def _check_names(layers: Sequence[Layer], maps: Sequence[str]) -> None:
    if not 1 <= len(layers) <= MOST_LAYERS or not maps:
        raise ValueError(
            f"it has {len(layers)} layers and {len(maps)} maps; it needs 1 to {MOST_LAYERS} layers and at least 1 map"
        )
    names = {IMAGE}
    for layer in layers:
        if layer.kind not in KINDS or not layer.name.isidentifier() or layer.name in names:
            raise ValueError(
                f"it has the layer {layer.name!r} of the kind {layer.kind!r}; known are {', '.join(KINDS)}"
            )
        if not layer.inputs or not names.issuperset(layer.inputs):
            raise ValueError(f"the layer {layer.name!r} has the inputs {layer.inputs}, which are not before it")
        names.add(layer.name)
    if not names.issuperset(maps):
        raise ValueError(f"its maps {maps} are not all names of layers")


def _conv(
    x: Tensor, *, weight: Tensor, bias: Tensor | None, stride: Sequence[int] = (1, 1), padding: Sequence[int] = (0, 0)
) -> Tensor:
    return F.conv2d(x, weight, bias, tuple(stride), tuple(padding), groups=x.shape[1] // weight.shape[1])


def _pad(x: Tensor, *, sides: Sequence[int], repeat: bool = False) -> Tensor:
    return F.pad(x, list(sides), mode="replicate" if repeat else "constant")


def _relu(x: Tensor, *, limit: float | None = None) -> Tensor:
    return F.relu(x) if limit is None else x.clamp(0, limit)


def _add(x: Tensor, y: Tensor) -> Tensor:
    return x + y


def _join(*parts: Tensor) -> Tensor:
    return torch.cat(parts, 1)


def _max(x: Tensor, *, size: int, stride: int) -> Tensor:
    return F.max_pool2d(x, size, stride)


def _mean(x: Tensor, *, size: int) -> Tensor:
    return F.avg_pool2d(x, size, 1, size // 2, count_include_pad=False)


KINDS: Mapping[str, Callable[..., Tensor]] = {
    "conv": _conv,
    "pad": _pad,
    "relu": _relu,
    "add": _add,
    "join": _join,
    "max": _max,
    "mean": _mean,
}
"""The kinds of layers: a convolution, in as many groups as the shape of its weights implies; padding (left, right, top,
bottom) by zeros or by the repeated edge; a rectifier, clipped at a limit if it has one; a sum of two maps; maps
concatenated along the channels; the maximum of each window; the mean around each position, over the map alone."""
