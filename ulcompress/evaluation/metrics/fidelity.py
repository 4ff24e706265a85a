"""Fidelity of a restored image to its original, pixel by pixel and in structure."""

import math
import warnings
from importlib.metadata import version

from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure, peak_signal_noise_ratio

from ulcompress.evaluation.metrics.base import Pair, PairMetric

HIGHEST_PSNR = 100.0
"""Largest PSNR of an image, in dB, so that a mean over images stays finite."""
SMALLEST_SIDE = 176
"""Smallest side of an image for MS-SSIM in pixels: a window of 11 must fit into the coarsest of its five scales."""


class PSNR(PairMetric):
    """Peak signal-to-noise ratio, up to 100 dB; its mean over images is a mean of decibels."""

    name, label, better = "psnr", "PSNR (dB)", "higher"
    protocol = (
        "PSNR over all pixels and RGB channels of the 8-bit images, "
        f"at most {HIGHEST_PSNR:.0f} dB; mean of the images' decibels"
    )

    def __init__(self):
        self.files = {}

    def __call__(self, pair: Pair) -> float:
        """Return decibels, 100 for equal images."""
        return min(HIGHEST_PSNR, psnr(pair.restored, pair.original))


class MSSSIM(PairMetric):
    """Multi-scale structural similarity."""

    name, label, better = "ms-ssim", "MS-SSIM", "higher"

    def __init__(self):
        self.files = {}
        self.protocol = (
            "MS-SSIM on RGB (mean over the channels), five scales, Gaussian windows of 11 pixels, torchmetrics "
            f"{version('torchmetrics')}; images with a side below {SMALLEST_SIDE} pixels have none"
        )

    def __call__(self, pair: Pair) -> float:
        """Return at most 1; NaN for a small image."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the protocol says so once
            return ms_ssim(pair.restored, pair.original)


def psnr(restored: Tensor, original: Tensor) -> float:
    """Return the peak signal-to-noise ratio over all pixels and channels of RGB images, (3, H, W) in [0, 1], in dB.

    Equal images give infinity; ValueError when the shapes differ.
    """
    _check(restored, original)
    return float(peak_signal_noise_ratio(restored, original, data_range=1.0))


def ms_ssim(restored: Tensor, original: Tensor) -> float:
    """Return the multi-scale structural similarity of RGB images, (3, H, W) in [0, 1]; 1 for equal ones.

    Wang, Simoncelli and Bovik, 2003: five scales with their weights, Gaussian windows of 11 pixels, mean over the
    channels. An image with a side below 176 pixels gives NaN and a warning; ValueError when the shapes differ.
    """
    _check(restored, original)
    if min(original.shape[1:]) < SMALLEST_SIDE:
        warnings.warn(f"MS-SSIM needs sides of at least {SMALLEST_SIDE} pixels; smaller images get NaN", stacklevel=2)
        return math.nan
    return float(multiscale_structural_similarity_index_measure(restored[None], original[None], data_range=1.0))


def _check(restored: Tensor, original: Tensor) -> None:
    if original.ndim != 3 or original.shape[0] != 3 or restored.shape != original.shape:
        shapes = f"{tuple(restored.shape)} and {tuple(original.shape)}"
        raise ValueError(f"got images of shapes {shapes}; give two of one shape, (3, H, W)")
