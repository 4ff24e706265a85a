"""What all training stages log."""

import pytest
import torch

from ulcompress.evaluation import psnr
from ulcompress.training.base import mean_psnr


def test_the_mean_psnr_is_a_mean_of_decibels_up_to_100():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, 20, 30, generator=generator)
    restored = images + 0.2 * torch.randn(3, 3, 20, 30, generator=generator)
    restored[2] = images[2]
    errors = (restored.clamp(0, 1) - images).square().mean((1, 2, 3))
    expected = -10 * errors.clamp_min(1e-10).log10()
    assert expected[2] == 100
    assert float(mean_psnr(restored, images)) == pytest.approx(float(expected.mean()), rel=1e-6)
    single = [psnr(one.clamp(0, 1), image) for one, image in zip(restored[:2], images[:2], strict=True)]
    assert float(mean_psnr(restored[:2], images[:2])) == pytest.approx(sum(single) / 2, rel=1e-6)
