import math

import pytest
import torch

from ulcompress.evaluation import seam_ratio
from ulcompress.evaluation.seams import borders


def noise(height=160, width=240, seed=0):
    return 0.4 + 0.2 * torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def photograph():
    """A picture with the spectrum of photographs, whose amplitude falls as one by the frequency."""
    spectrum = torch.fft.rfft2(noise(256, 384))
    frequency = torch.hypot(torch.fft.fftfreq(256)[:, None], torch.fft.rfftfreq(384)).clamp_min(1 / 384)
    picture = torch.fft.irfft2(spectrum / frequency, s=(256, 384))
    return (picture - picture.min()) / (picture.max() - picture.min())


def test_borders_are_where_patches_begin_or_end():
    assert borders(20, patch=8, overlap=3) == [5, 8, 10, 12, 13, 18]  # patches begin at 0, 5, 10, 12
    assert borders(16, patch=8, overlap=0) == [8]
    assert borders(8, patch=8, overlap=3) == []


@pytest.mark.parametrize("make", [noise, photograph])
@pytest.mark.parametrize("spacing", [1, 8])
def test_a_picture_without_seams_gives_about_one(make, spacing):
    assert seam_ratio(make(), patch=64, overlap=16, spacing=spacing) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("vertical", [True, False])
def test_steps_at_the_borders_are_seen(vertical):
    """Every other patch is brighter."""
    picture = photograph() if vertical else photograph().transpose(1, 2)
    brighter = 0.2 * (torch.arange(384) // 64 % 2)
    stepped = picture + (brighter if vertical else brighter[:, None])
    assert seam_ratio(picture, patch=64, overlap=0) == pytest.approx(1, abs=0.1)
    assert seam_ratio(stepped, patch=64, overlap=0) > 2


def test_a_step_elsewhere_is_not_a_seam():
    picture = photograph()
    stepped = picture.clone()
    stepped[..., 96:] += 0.2
    assert seam_ratio(stepped, patch=64, overlap=0) == pytest.approx(seam_ratio(picture, patch=64, overlap=0))


def test_the_closed_form():
    """On a ramp all gradients are equal; one border becomes three times as steep, two others stay."""
    picture = torch.linspace(0, 0.5, 24).expand(3, 8, 24).clone()
    picture[..., 8:] += 2 * 0.5 / 23
    assert seam_ratio(picture, patch=8, overlap=0) == pytest.approx((3 + 1) / 2, rel=1e-5)


def test_a_grid_that_is_everywhere_counts_only_without_the_spacing():
    picture = noise()
    picture[..., ::8] += 0.3
    assert seam_ratio(picture, patch=64, overlap=16) > 1.3
    assert seam_ratio(picture, patch=64, overlap=16, spacing=8) == pytest.approx(1, abs=0.1)


def test_an_image_in_one_patch_has_no_seams():
    assert math.isnan(seam_ratio(noise(60, 64), patch=64, overlap=16))


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (1, 8, 8), (8, 8)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"got an image of shape .*; give RGB, \(3, H, W\)"):
        seam_ratio(torch.zeros(shape), patch=4, overlap=1)


@pytest.mark.parametrize("wrong", [{"patch": 4, "overlap": 4}, {"patch": 4, "overlap": 1, "spacing": 0}])
def test_impossible_patches_are_refused(wrong):
    with pytest.raises(ValueError, match="got patch 4, overlap"):
        seam_ratio(noise(), **wrong)
