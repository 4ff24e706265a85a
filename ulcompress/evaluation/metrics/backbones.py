"""What distances stand on: a classifier of torchvision's, or a network of the user's, as torch.export saves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from ulcompress.evaluation.metrics.weights import SMALLEST_SIDE, MissingWeights, backbone, reading
from ulcompress.losses.feature_distance import distance_of_maps

SUFFIX = ".pt2"
SMALLEST = 64
"""Side in pixels of the smallest images that such a network has to take: with torch.export no map may shrink to 1."""
SIZES = ((3, 97, 131), (1, SMALLEST, 80))
"""Number, height and width of the images on which a network is tried, unlike those that it was exported with."""


def exported_file(name: str, folder: Path | None) -> Path | None:
    """Return the file of a network of this name in a folder, where there is one."""
    path = folder / f"{name}{SUFFIX}" if folder is not None else None
    return path if path is not None and path.is_file() else None


def on_backbone(
    name: str,
    folder: Path | None,
    device: str,
    *,
    exported: Callable[[Path, str], nn.Module],
    published: Callable[..., nn.Module],
) -> tuple[nn.Module, Path, int]:
    """Build a network on the folder's NAME.pt2, or else on a classifier of torchvision's, and bring it to a device.

    Args:
        name: Of the backbone.
        folder: With files of weights, looked into before any download.
        device: Where the network goes.
        exported: Takes the .pt2 file and the device.
        published: Takes `backbone` and `weights`, as `losses.FeatureDistance` does.

    Returns:
        The network, the file it is from, and the smallest side in pixels of the images that it takes.

    Raises:
        MissingWeights: The file is not to be had, or cannot be used.
    """
    if path := exported_file(name, folder):
        return exported(path, device), path, SMALLEST
    path = backbone(name, folder)
    with reading(path):
        return published(backbone=name, weights=str(path)).to(device), path, SMALLEST_SIDE


class ExportedMaps(nn.Module):
    """A network that maps RGB in [0, 1], (B, 3, H, W), to one feature map or several, (B, C, h, w) each.

    It stays in the mode in which it was exported. Such a file can hold code: read only those that you trust.
    """

    def __init__(self, path: Path, device: str):
        """Read the file and try it; MissingWeights where it is no such network, or not for images of every size."""
        super().__init__()
        try:
            self.network = move_to_device_pass(torch.export.load(path), device).module()
            for count, *size in SIZES:
                brightness = torch.linspace(0.3, 1, count, device=device)[:, None, None, None]
                _check(self, brightness * torch.rand(count, 3, *size, device=device))
        except Exception as error:  # whatever such a file does to its reader
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise MissingWeights(
                f"{path} cannot be used as a backbone; export it in evaluation mode, for any number and size of images "
                f"of at least {SMALLEST} pixels ({reason})"
            ) from error

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps, the last one what is pooled for distances between sets."""
        maps = self.network(images)
        return [maps] if isinstance(maps, Tensor) else list(maps.values() if isinstance(maps, Mapping) else maps)

    def train(self, mode: bool = True) -> ExportedMaps:
        """Leave the mode as it is."""
        return self


@torch.no_grad()
def _check(maps: ExportedMaps, images: Tensor) -> None:
    """Raise ValueError where a network gives no maps, or an image others in company than alone."""
    together, alone = maps(images), maps(images[-1:])
    if not together or any(not isinstance(each, Tensor) or each.ndim != 4 for each in together):
        shapes = ", ".join(str(tuple(getattr(each, "shape", ()))) for each in together)
        raise ValueError(f"it gives {shapes or 'nothing'}, not maps (B, C, h, w)")
    for one, other in zip(together, alone, strict=True):
        if not torch.allclose(one[-1:], other, rtol=1e-2, atol=1e-2 * float(other.abs().max())):
            raise ValueError("it gives an image other maps in a batch than alone")


class ExportedDistance(nn.Module):
    """The feature distance on the maps of such a network."""

    def __init__(self, path: Path, device: str):
        super().__init__()
        self.maps = ExportedMaps(path, device)

    def forward(self, restored: Tensor, original: Tensor) -> Tensor:
        """Compare two batches of RGB in [0, 1], (B, 3, H, W); returns (B,)."""
        return torch.stack([distance_of_maps(pair) for pair in self.maps(torch.cat([restored, original]))]).mean(0)


class ExportedPoints(nn.Module):
    """The last map of such a network, averaged over its positions."""

    def __init__(self, path: Path, device: str):
        super().__init__()
        self.maps = ExportedMaps(path, device)

    def forward(self, images: Tensor) -> Tensor:
        """Map RGB in [0, 1], (B, 3, H, W), to (B, C)."""
        return self.maps(images)[-1].mean((2, 3))
