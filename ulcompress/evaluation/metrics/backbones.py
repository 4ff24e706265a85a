"""Backbones of distances: a classifier of torchvision's, or a network from a file of the user's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from ulcompress.evaluation.metrics.weights import SMALLEST_SIDE, MissingWeights, backbone, reading
from ulcompress.losses.backbone import is_backbone
from ulcompress.losses.exported import PROGRAM, SMALLEST, load_maps

Network = TypeVar("Network", bound=nn.Module)


def network_file(name: str, folder: Path | None) -> Path | None:
    """Return the file of a network of this name in a folder, as data or else a program; None without one."""
    if folder is None:
        return None
    # Under the name of a classifier of torchvision's a safetensors file holds its weights alone.
    suffixes = (PROGRAM,) if is_backbone(name) else (".safetensors", PROGRAM)
    return next((path for suffix in suffixes if (path := folder / f"{name}{suffix}").is_file()), None)


def on_backbone(
    name: str,
    folder: Path | None,
    device: str,
    *,
    from_file: Callable[[Path], Network],
    published: Callable[..., Network],
) -> tuple[Network, Path, int]:
    """Build a network on the folder's NAME.safetensors or NAME.pt2, or else on a classifier of torchvision's.

    Args:
        name: Of the backbone.
        folder: With files of weights, looked into before any download.
        device: Where the network goes; a .pt2 goes where its images are.
        from_file: Builds it from the folder's file; ValueError where that cannot be used.
        published: Builds it from `backbone` and `weights`, as `losses.FeatureDistance` does.

    Returns:
        The network, the file it is from, and the smallest side in pixels of the images that it takes.

    Raises:
        MissingWeights: The file is not to be had, or cannot be used.
    """
    if path := network_file(name, folder):
        try:
            return from_file(path).to(device), path, SMALLEST
        except ValueError as error:
            raise MissingWeights(str(error)) from error
    path = backbone(name, folder)
    with reading(path):
        return published(backbone=name, weights=str(path)).to(device), path, SMALLEST_SIDE


class PooledMaps(nn.Module):
    """The last map of a network from a file, averaged over its positions."""

    def __init__(self, path: Path, *, trust: bool):
        super().__init__()
        self.maps = load_maps(path, trust=trust)

    def forward(self, images: Tensor) -> Tensor:
        """Map RGB in [0, 1], (B, 3, H, W), to (B, C)."""
        return self.maps(images)[-1].mean((2, 3))
