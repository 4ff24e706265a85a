"""LPIPS, the learned perceptual distance of the literature."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ulcompress.functional.padding import pad_to_minimum
from ulcompress.losses.backbone import load_backbone
from ulcompress.losses.base import SMALLEST_SIDE, NetworkDistance

if TYPE_CHECKING:
    from torchmetrics.functional.image.lpips import _LPIPS

BACKBONES = {"vgg": "vgg16", "alex": "alexnet", "squeeze": "squeezenet1_1"}
"""The torchvision model behind each of the networks that LPIPS knows."""


class LPIPS(NetworkDistance):
    """Learned perceptual image patch similarity, version 0.1: torchmetrics' network and learned weights of channels.

    Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR 2018, equation 1. With
    torchvision's weights the values are those of the literature; papers measure with `alex` and train with `vgg`.
    """

    def __init__(self, *, net: str = "vgg", weights: str | None = None):
        """Load the network.

        Args:
            net: One of `BACKBONES`.
            weights: A safetensors file of the state dictionary of torchvision's vgg16, alexnet or squeezenet1_1; None
                downloads torchvision's file. The weights of the channels come with torchmetrics.

        Raises:
            ValueError: The network is unknown, or its weights are missing.
        """
        super().__init__()
        if net not in BACKBONES:
            raise ValueError(f"net {net!r} is unknown; choose one of {', '.join(BACKBONES)}")
        self.name = f"lpips-{net}"
        self.network = _network(net, load_backbone(BACKBONES[net], weights))
        self.freeze()

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the network's maps, each position at unit length."""
        scaled = self.network.scaling_layer(2 * pad_to_minimum(images, SMALLEST_SIDE) - 1)  # LPIPS takes [-1, 1]
        return [_unit(each) for each in self.network.net(scaled)]

    def between(self, maps: Iterable[Tensor], others: Sequence[Tensor]) -> Tensor:
        """Return the mean over all positions of the channels' weighted squared differences, summed over the maps."""
        parts = zip(maps, others, self.network.lins, strict=True)
        distances = [weigh((one - other) ** 2).mean((2, 3)) for one, other, weigh in parts]
        return functools.reduce(torch.add, distances).flatten()


def _unit(maps: Tensor) -> Tensor:
    return maps / torch.sqrt(1e-8 + (maps**2).sum(1, keepdim=True))


def _network(net: str, features: nn.Sequential) -> _LPIPS:
    from torchmetrics.functional.image.lpips import _LPIPS

    network = _LPIPS(net=net, pnet_rand=True)  # type: ignore[arg-type]
    # The backbone is cut into slices, in which every layer keeps its index within torchvision's features.
    for slice_ in (module for module in network.net.modules() if isinstance(module, nn.Sequential)):
        for index, layer in slice_.named_children():
            layer.load_state_dict(features[int(index)].state_dict())
    return network
