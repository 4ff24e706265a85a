import inspect

import pytest
import torch

from ulcompress import autoencoders
from ulcompress.autoencoders import Autoencoder, CosineAutoencoder, KLAutoencoder, PixelSpace, TinyAutoencoder, kl
from ulcompress.testing import check_autoencoder


def cosine():
    """One whose network has begun to learn."""
    autoencoder = CosineAutoencoder(widths=(8, 8), channels=6)
    torch.nn.init.normal_(autoencoder.network.conv_out.weight, std=0.01)
    return autoencoder


MAKERS = {
    CosineAutoencoder: cosine,
    KLAutoencoder: lambda: KLAutoencoder(widths=(8, 8), patch_size=4),
    PixelSpace: PixelSpace,
    TinyAutoencoder: lambda: TinyAutoencoder(width=8, blocks=(1, 1, 1)),
}


@pytest.fixture(params=MAKERS, ids=lambda cls: cls.__name__)
def autoencoder(request, one_thread):
    torch.manual_seed(0)
    return MAKERS[request.param]().eval()


def images(autoencoder, rows, columns, count=2):
    generator = torch.Generator().manual_seed(rows + 10 * columns)
    return torch.rand(count, 3, rows * autoencoder.stride, columns * autoencoder.stride, generator=generator)


def test_every_class_is_here():
    exported = (getattr(autoencoders, name) for name in autoencoders.__all__)
    classes = {c for c in exported if inspect.isclass(c) and issubclass(c, Autoencoder)}
    assert {c for c in classes if not inspect.isabstract(c)} == set(MAKERS)


def test_it_keeps_the_contract(autoencoder):
    check_autoencoder(autoencoder)


@torch.no_grad()
def test_pixels_are_their_own_latent_in_a_range_around_zero():
    pixels, image = PixelSpace(), torch.rand(1, 3, 2, 5)
    image[0, :, 0, :2] = torch.tensor([0.0, 1.0])
    latent = pixels.encode(image)
    assert latent[0, 0, 0, :2].tolist() == [-1, 1]
    torch.testing.assert_close(pixels.decode(latent), image)
    assert pixels.decode(torch.full((1, 3, 1, 1), 3.0)).max() == 2, "nothing is clamped"


@torch.no_grad()
def test_observed_latents_get_zero_mean_and_unit_variance():
    torch.manual_seed(0)
    autoencoder = KLAutoencoder(widths=(8, 8))
    raw = torch.randn(4, 4, 5, 5) * torch.tensor([0.1, 1.0, 5.0, 20.0])[:, None, None] + 3
    for _ in range(1500):
        autoencoder.observe(raw)
    latent = autoencoder.normalize(raw)
    torch.testing.assert_close(latent.mean((0, 2, 3)), torch.zeros(4), atol=1e-2, rtol=0)
    torch.testing.assert_close(latent.var((0, 2, 3), unbiased=False), torch.ones(4), atol=1e-2, rtol=0)


@torch.no_grad()
def test_decode_takes_the_normalisation_back(one_thread):
    torch.manual_seed(0)
    autoencoder = KLAutoencoder(widths=(8, 8)).eval()
    image = images(autoencoder, 2, 2)
    before = autoencoder.decode(autoencoder.encode(image))
    autoencoder.latent_mean.fill_(0.7)
    autoencoder.latent_std.fill_(3.0)
    torch.testing.assert_close(autoencoder.decode(autoencoder.encode(image)), before)


@torch.no_grad()
def test_an_image_above_the_tile_is_coded_about_as_a_whole(one_thread, monkeypatch):
    monkeypatch.setattr(kl, "TILE", 512)
    torch.manual_seed(0)
    autoencoder = KLAutoencoder(widths=(8, 8)).eval()
    image = images(autoencoder, 100, 2, count=1)
    tiled = autoencoder.encode(image)
    restored = autoencoder.decode(tiled)
    autoencoder.network.disable_tiling()
    whole = autoencoder.encode(image)
    assert not torch.equal(tiled, whole) and not torch.equal(restored, autoencoder.decode(tiled))
    # Group norms take their statistics from a tile each, so that the two are not the same.
    assert (tiled - whole).square().mean() < 0.05 * whole.var()
    assert (restored - autoencoder.decode(tiled)).square().mean() < 0.25 * restored.var()


def test_widths_that_the_group_norm_cannot_split_are_refused():
    with pytest.raises(ValueError, match="widths must be multiples of 8"):
        KLAutoencoder(widths=(8, 12))


@torch.no_grad()
def test_untrained_cosines_are_the_nearest_image_that_they_can_tell(one_thread):
    torch.manual_seed(0)
    autoencoder, image = CosineAutoencoder(widths=(8, 8), channels=6), torch.rand(1, 3, 16, 24)
    latent = autoencoder.encode(image)
    restored = autoencoder.decode(latent)
    torch.testing.assert_close(autoencoder.encode(restored), latent)
    rest = image - restored
    assert abs(float((rest * (restored - 0.5)).sum())) < 1e-3 < float(rest.square().sum()), "the rest is orthogonal"
    grey = torch.full((1, 3, 16, 16), 0.3)
    torch.testing.assert_close(autoencoder.decode(autoencoder.encode(grey)), grey)


@torch.no_grad()
def test_large_latents_are_decoded_in_tiles_that_meet(one_thread, monkeypatch):
    torch.manual_seed(0)
    autoencoder, latent = cosine(), torch.randn(1, 6, 5, 300)
    sizes = []
    whole = autoencoder.network.forward
    monkeypatch.setattr(autoencoder.network, "forward", lambda x: sizes.append(x.shape[-1]) or whole(x))
    tiled = autoencoder.decode(latent)
    assert tiled.shape == (1, 3, 40, 2400) and max(sizes) == 128 and len(sizes) == 3
    steps = tiled.diff(dim=-1).abs().mean((0, 1, 2))
    assert steps[7::8].max() < 3 * steps[7::8].median(), "no seam"


@pytest.mark.parametrize("options", [{"stride": 6, "widths": (8, 8, 8)}, {"widths": (8, 12)}])
def test_sizes_that_cosines_cannot_have_are_refused(options):
    with pytest.raises(ValueError, match="the stride must be a multiple of"):
        CosineAutoencoder(**options)
