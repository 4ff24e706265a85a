"""What distances stand on: a classifier of torchvision's, or a network of the user's, as torch.export saves it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from ulcompress.evaluation.metrics.weights import SMALLEST_SIDE, MissingWeights, backbone, reading
from ulcompress.losses.exported import SMALLEST, ExportedMaps

SUFFIX = ".pt2"


def exported_file(name: str, folder: Path | None) -> Path | None:
    """Return the file of a network of this name in a folder, where there is one."""
    path = folder / f"{name}{SUFFIX}" if folder is not None else None
    return path if path is not None and path.is_file() else None


def on_backbone(
    name: str,
    folder: Path | None,
    device: str,
    *,
    exported: Callable[[Path], nn.Module],
    published: Callable[..., nn.Module],
) -> tuple[nn.Module, Path, int]:
    """Build a network on the folder's NAME.pt2, or else on a classifier of torchvision's.

    Args:
        name: Of the backbone.
        folder: With files of weights, looked into before any download.
        device: Where a network of torchvision's goes.
        exported: Takes the .pt2 file; such a network goes where its images are.
        published: Takes `backbone` and `weights`, as `losses.FeatureDistance` does.

    Returns:
        The network, the file it is from, and the smallest side in pixels of the images that it takes.

    Raises:
        MissingWeights: The file is not to be had, or cannot be used.
    """
    if path := exported_file(name, folder):
        try:
            return exported(path), path, SMALLEST
        except ValueError as error:
            raise MissingWeights(str(error)) from error
    path = backbone(name, folder)
    with reading(path):
        return published(backbone=name, weights=str(path)).to(device), path, SMALLEST_SIDE


class ExportedPoints(nn.Module):
    """The last map of such a network, averaged over its positions."""

    def __init__(self, path: Path):
        super().__init__()
        self.maps = ExportedMaps(path)

    def forward(self, images: Tensor) -> Tensor:
        """Map RGB in [0, 1], (B, 3, H, W), to (B, C)."""
        return self.maps(images)[-1].mean((2, 3))
