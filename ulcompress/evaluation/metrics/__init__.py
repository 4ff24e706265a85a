from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ulcompress.evaluation.metrics.backbones import network_file
from ulcompress.evaluation.metrics.base import Metric, Pair, PairMetric, SetMetric
from ulcompress.evaluation.metrics.clip import CLIPSimilarity, clip
from ulcompress.evaluation.metrics.fidelity import MSSSIM, PSNR, ms_ssim, psnr
from ulcompress.evaluation.metrics.perceptual import Perceptual, dists, feature_distance, lpips
from ulcompress.evaluation.metrics.segmentation import MeanIoU, mean_iou
from ulcompress.evaluation.metrics.sets import SetDistance, frechet, inception
from ulcompress.evaluation.metrics.ssimulacra2 import SSIMULACRA2
from ulcompress.evaluation.metrics.weights import BACKBONES, MissingWeights
from ulcompress.losses.backbone import is_backbone

METRICS: Mapping[str, Callable[[Path | None, str], Metric]] = {
    "psnr": lambda folder, device: PSNR(),
    "ms-ssim": lambda folder, device: MSSSIM(),
    "lpips-alex": partial(lpips, "alex"),
    "lpips-vgg": partial(lpips, "vgg"),
    "lpips-squeeze": partial(lpips, "squeeze"),
    "dists": dists,
    "fid": partial(inception, "fid", None),
    "fid-256-half-shift": partial(inception, "fid", 256),
    "kid": partial(inception, "kid", None),
    "kid-256-half-shift": partial(inception, "kid", 256),
    "clip-image": partial(clip, "image"),
    "clip-caption": partial(clip, "caption"),
    "miou": mean_iou,
    "ssimulacra2": lambda folder, device: SSIMULACRA2(),
    **{f"feature-distance-{name}": partial(feature_distance, name) for name in BACKBONES},
    **{f"frechet-{name}": partial(frechet, name, None) for name in BACKBONES},
    **{f"frechet-{name}-128": partial(frechet, name, 128) for name in BACKBONES},
}
"""By the name that `--metrics` takes: a folder of weights (or None) and a device to a metric."""
FIDELITY = ("psnr", "ms-ssim")
"""The default metrics, which need no weights."""


@dataclass(frozen=True)
class Missing:
    """A metric that was asked for and cannot be applied."""

    name: str
    reason: str
    """One line that names the file it wants."""


def build(
    names: Sequence[str], folder: Path | None, device: str, *, trust_networks: bool = False
) -> tuple[list[Metric], list[Missing]]:
    """Return the metrics of these names, and those whose weights are missing.

    Args:
        names: Of `METRICS`, of a distance on any backbone, or `all`.
        folder: With files of weights, looked into before any download.
        device: Where networks go.
        trust_networks: Read .pt2 files of the folder, which can hold code that runs.

    Raises:
        ValueError: A metric is unknown.
    """
    found: list[Metric] = []
    missing: list[Missing] = []
    for name in known_names(names, folder):
        try:
            found.append(_maker(name, folder, trust_networks)(folder, device))
        except MissingWeights as error:
            missing.append(Missing(name, " ".join(str(error).split())))
    return found, missing


def known_names(names: Sequence[str], folder: Path | None) -> list[str]:
    """Return the names of metrics, each once and `all` as all of `METRICS`; ValueError for an unknown one."""
    for name in names:
        if name != "all":
            _maker(name, folder)
    return list(METRICS) if "all" in names else list(dict.fromkeys(names))


def _maker(name: str, folder: Path | None, trust_networks: bool = False) -> Callable[[Path | None, str], Metric]:
    """Return what makes a metric: a distance on the backbone that the name ends with, or one of `METRICS`."""
    if (backbone := name.removeprefix("feature-distance-")) != name and _is_backbone(backbone, folder):
        return partial(feature_distance, backbone, trust_networks=trust_networks)
    if (backbone := name.removeprefix("frechet-")) != name:
        whole = backbone.removesuffix("-128")
        if _is_backbone(whole, folder):
            return partial(frechet, whole, None if whole == backbone else 128, trust_networks=trust_networks)
    if name in METRICS:
        return METRICS[name]
    raise ValueError(
        f"got the metric {name!r}; known are all, {', '.join(METRICS)}, and feature-distance-NAME, frechet-NAME and "
        "frechet-NAME-128 for any convolutional classifier of torchvision's, or for a NAME.safetensors or NAME.pt2 in "
        "the folder of weights"
    )


def _is_backbone(name: str, folder: Path | None) -> bool:
    return is_backbone(name) or network_file(name, folder) is not None


__all__ = [
    "FIDELITY",
    "METRICS",
    "MSSSIM",
    "PSNR",
    "SSIMULACRA2",
    "CLIPSimilarity",
    "MeanIoU",
    "Metric",
    "Missing",
    "MissingWeights",
    "Pair",
    "PairMetric",
    "Perceptual",
    "SetDistance",
    "SetMetric",
    "build",
    "known_names",
    "ms_ssim",
    "psnr",
]
