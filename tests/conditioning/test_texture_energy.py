import pytest
import torch

from ulcompress.conditioning import NeuralSyntax, TextureEnergy


@pytest.fixture(autouse=True)
def seeded(one_thread):
    torch.manual_seed(0)


def noise(deviation, height=64, width=96):
    """Grey noise around a half."""
    return 0.5 + deviation * torch.randn(1, 1, height, width).expand(1, 3, -1, -1)


def test_as_much_texture_as_the_base_is_zero():
    image = noise(0.1)
    assert TextureEnergy()(image, image).tolist() == [[0] * 12]


def test_energy_is_told_in_steps_of_the_resolution():
    base = noise(1.0)
    image = 0.5 + 2 * (base - 0.5)
    for resolution in (1.0, 2.0, 3.5):
        told = TextureEnergy(resolution=resolution)(image, base)
        torch.testing.assert_close(told, torch.full_like(told, 2 * resolution), atol=0.02, rtol=0)


def test_each_band_is_told_by_itself():
    base = torch.full((1, 3, 64, 64), 0.5)
    fine = base + 0.1 * (torch.arange(64) % 2 - 0.5)
    coarse = base + 0.1 * (torch.arange(64) // 8 % 2 - 0.5)
    energy = TextureEnergy(classes=1, resolution=1.0)
    torch.testing.assert_close(energy(fine, base)[0, 1:], torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(energy(coarse, base)[0, :3], torch.zeros(3), atol=1e-3, rtol=0)
    assert energy(fine, base)[0, 0] > 5 and energy(coarse, base)[0, 3] > 5


def test_classes_tell_the_quiet_from_the_busy_part_of_the_base():
    """The base has lost what was in its left half."""
    image, base = noise(0.1), noise(0.1)
    base[..., :48] = 0.5 + 0.1 * (base[..., :48] - 0.5)
    quiet, busy = TextureEnergy(bands=1, classes=2, resolution=1.0)(image, base)[0]
    assert quiet == pytest.approx(6.6, abs=0.5)
    assert busy == pytest.approx(0, abs=0.2)


def test_what_cannot_be_seen_is_not_told():
    base = torch.full((1, 3, 64, 64), 0.5)
    assert TextureEnergy()(base + torch.randn_like(base) / 2550, base).abs().max() < 0.1


def test_batches_sizes_and_padding():
    energy, images, bases = TextureEnergy(), torch.rand(3, 3, 50, 70), torch.rand(3, 3, 50, 70)
    together = energy(images, bases)
    for number in range(3):
        torch.testing.assert_close(energy(images[number, None], bases[number, None]), together[number, None])
    padded = torch.nn.functional.pad(images, (0, 10, 0, 14), value=1.0)
    assert torch.equal(energy(padded, bases), together)
    for size in [(1, 1), (3, 40), (17, 16)]:
        assert energy(torch.rand(1, 3, *size), torch.rand(1, 3, *size)).isfinite().all()


def test_a_class_without_blocks_tells_nothing():
    dark, bright = torch.zeros(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    told = TextureEnergy(bands=1, classes=3)(bright, dark)
    assert (told != 0).sum() == 1


def test_no_network_learns_from_it():
    base = torch.rand(1, 3, 32, 32, requires_grad=True)
    assert not TextureEnergy()(torch.rand(1, 3, 32, 32), base).requires_grad
    assert not list(TextureEnergy().parameters())


def test_a_missing_base_is_refused():
    with pytest.raises(ValueError, match="list a conditioner that provides `base`"):
        TextureEnergy()(torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize("arguments", [{"bands": 0}, {"bands": 5}, {"classes": 0}, {"resolution": 0.0}])
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="give 1 to 4 bands, at least one class and a resolution above 0"):
        TextureEnergy(**arguments)


def test_the_nominal_cost_of_its_syntax_is_of_its_numbers():
    syntax = NeuralSyntax(generator=TextureEnergy(bands=2, classes=5))
    assert syntax.channels(0) == {"syntax": 10}
    assert NeuralSyntax.nominal_cost(syntax.arguments()).startswith("10 integers of 15 values")
