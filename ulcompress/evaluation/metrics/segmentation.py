"""Whether a segmentation network sees the same things in a restored image as in its original."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ulcompress.evaluation.metrics.base import Pair, SetMetric, stacked
from ulcompress.evaluation.metrics.weights import fetch, hashes, reading
from ulcompress.losses.backbone import ImageNetScale

FILE = "deeplabv3_resnet50_coco-cd0a2569.pth"
CLASSES = 21


class MeanIoU(SetMetric):
    """Mean over classes of intersection by union of the labels, both counted over all pixels of the set."""

    name, label, better = "miou", "mIoU", "higher"
    batched = True

    def __init__(self, labels: Callable[[Tensor], Tensor], classes: int, *, protocol: str, files: Mapping[str, str]):
        """Take what maps RGB in [0, 1], (B, 3, H, W), to class indices, (B, H, W)."""
        self.labels = labels
        self.classes = classes
        self.protocol = protocol
        self.files = files

    def points(self, pair: Pair) -> dict[str, np.ndarray]:
        """Return the pixels of `intersection` and `union` of each class, (1, classes)."""
        return self.batch([pair])[0]

    @torch.no_grad()
    def batch(self, pairs: Sequence[Pair]) -> list[dict[str, np.ndarray]]:
        """Return the points of each of several pairs, all of one size."""
        restored, original = map(self.labels, stacked(pairs))
        return [self._counted(*labels) for labels in zip(restored, original, strict=True)]

    def compute(self, points: Sequence[Mapping[str, np.ndarray]]) -> float:
        """Return 0 to 1; classes that are in no label count for nothing."""
        both, any_ = (sum(of_image[kind][0] for of_image in points) for kind in ("intersection", "union"))
        seen = np.asarray(any_) > 0
        return float((np.asarray(both)[seen] / np.asarray(any_)[seen]).mean()) if seen.any() else np.nan

    def _counted(self, restored: Tensor, original: Tensor) -> dict[str, np.ndarray]:
        counts = {
            "intersection": torch.bincount(original[original == restored], minlength=self.classes),
            "union": torch.bincount(original.flatten(), minlength=self.classes)
            + torch.bincount(restored[original != restored], minlength=self.classes),
        }
        return {kind: count.cpu().numpy()[None] for kind, count in counts.items()}


def mean_iou(folder: Path | None, device: str) -> MeanIoU:
    """Return the mIoU of torchvision's DeepLabV3; MissingWeights where those of the network are."""
    from torchvision.models.segmentation import deeplabv3_resnet50

    path = fetch(FILE, folder)
    network = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True)
    with reading(path):
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return MeanIoU(
        Labels(network.to(device)),
        CLASSES,
        protocol="labels of torchvision's DeepLabV3-ResNet50 (COCO with the 21 VOC labels) on the restored image "
        "against those on the original, full size; intersections and unions over all images, torchvision "
        f"{version('torchvision')}",
        files=hashes(path),
    )


class Labels(nn.Module):
    """The most likely class at every pixel."""

    def __init__(self, network: nn.Module):
        """Take a segmentation network of torchvision."""
        super().__init__()
        self.network = network
        self.scale = ImageNetScale().to(next(network.parameters()).device)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Map RGB in [0, 1], (B, 3, H, W), to class indices, (B, H, W)."""
        return self.network(self.scale(images.to(self.scale.mean)))["out"].argmax(1)
