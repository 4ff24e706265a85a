import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio as reference_psnr

from ulcompress.evaluation import Pair, ms_ssim, psnr
from ulcompress.evaluation.metrics import PSNR


def noisy_pair(side):
    generator = torch.Generator().manual_seed(0)
    original = torch.rand(3, side, side, generator=generator)
    return (original + 0.1 * torch.randn(3, side, side, generator=generator)).clamp(0, 1), original


def test_psnr_of_a_constant_error_is_its_closed_form():
    original = torch.full((3, 5, 7), 0.25)
    assert psnr(original + 0.1, original) == pytest.approx(20, abs=1e-4)
    assert psnr(original, original) == math.inf


def test_the_metric_ends_at_100_db_so_that_means_are_finite():
    original = torch.rand(3, 8, 8)
    assert PSNR()(Pair(original, original)) == 100 and "at most 100 dB" in PSNR().protocol


def test_psnr_agrees_with_scikit_image():
    restored, original = noisy_pair(32)
    assert psnr(restored, original) == pytest.approx(
        reference_psnr(original.numpy(), restored.numpy(), data_range=1), abs=1e-4
    )


def test_ms_ssim_agrees_with_its_definition_from_single_scales():
    from torch.nn import functional as F
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    restored, original = (image[None] for image in noisy_pair(176))
    product = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        similarity, contrast = ssim(restored, original, data_range=1.0, return_contrast_sensitivity=True)
        product *= float(similarity if scale == 4 else contrast.mean()) ** weight
        restored, original = F.avg_pool2d(restored, 2), F.avg_pool2d(original, 2)
    assert ms_ssim(*noisy_pair(176)) == pytest.approx(product, abs=1e-3)


def test_ms_ssim_of_equal_images_is_one():
    _, original = noisy_pair(176)
    assert ms_ssim(original, original) == pytest.approx(1, abs=1e-5)


def test_ms_ssim_of_an_image_that_is_too_small_is_nan_with_a_reason():
    restored, original = noisy_pair(175)
    with pytest.warns(UserWarning, match="at least 176 pixels"):
        assert math.isnan(ms_ssim(restored, original))


@pytest.mark.parametrize("metric", [psnr, ms_ssim])
@pytest.mark.parametrize("shape", [(3, 8, 9), (1, 8, 8), (1, 3, 8, 8)])
def test_other_shapes_are_refused(metric, shape):
    with pytest.raises(ValueError, match="one shape"):
        metric(torch.zeros(shape), torch.zeros(3, 8, 8) if shape != (1, 8, 8) else torch.zeros(shape))


def test_psnr_is_over_all_channels_together():
    original = torch.zeros(3, 2, 2)
    restored = original.clone()
    restored[0] = 0.3
    assert psnr(restored, original) == pytest.approx(-10 * np.log10(0.09 / 3), abs=1e-4)
