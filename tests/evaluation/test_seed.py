import pytest
import torch
from torch.nn.functional import mse_loss

from ulcompress.decoders import BaseReconstruction, DiffusionDecoder
from ulcompress.diffusion import BoundaryControl
from ulcompress.evaluation import choose_seed, with_seed


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, 32, 48, generator=generator), torch.rand(3, 40, 40, generator=generator)]


def mean_error(codec, images, seed):
    return sum(float(mse_loss(codec.decode(codec.encode(image), seed=seed), image)) for image in images)


def test_the_chosen_seed_restores_best(tiny_codec, images):
    candidates = range(3, 9)
    errors = {seed: mean_error(tiny_codec, images, seed) for seed in candidates}
    best, worst = min(errors, key=errors.get), max(errors, key=errors.get)
    assert choose_seed(tiny_codec, images, candidates, mse_loss) == best
    assert choose_seed(tiny_codec, images, candidates, lambda *pair: -mse_loss(*pair)) == worst


def test_of_equal_seeds_the_first_is_taken_and_distances_may_be_per_image(tiny_codec, images):
    assert choose_seed(tiny_codec, images, [4, 2, 7], lambda restored, _: torch.zeros(len(restored))) == 4


def test_all_files_are_restored_from_the_seed(tiny_codec, images):
    seeded = with_seed(tiny_codec, 5)
    data = tiny_codec.compress(images[0])
    expected = tiny_codec.decompress(data, seed=5)
    assert torch.equal(seeded.decompress(data), expected)
    assert not torch.equal(tiny_codec.decompress(data), expected)
    assert seeded.fingerprint == tiny_codec.fingerprint
    assert seeded.arguments()["decoder"]["init_args"]["boundary"]["seed"] == 5
    assert seeded.compress(images[0]) == data


def test_a_seed_that_is_there_neither_counts_nor_is_lost(tiny_codec, images):
    candidates = range(3, 9)
    seeded = with_seed(tiny_codec, 5)
    chosen = choose_seed(seeded, images, candidates, mse_loss)
    assert chosen == choose_seed(tiny_codec, images, candidates, mse_loss) != 5
    assert seeded.decoder.boundary.seed == 5


def test_nothing_to_choose_from_is_refused(tiny_codec, images):
    with pytest.raises(ValueError, match="got 0 images and 1 candidates"):
        choose_seed(tiny_codec, [], [0], mse_loss)
    with pytest.raises(ValueError, match="got 2 images and 0 candidates"):
        choose_seed(tiny_codec, images, range(0), mse_loss)


def test_a_decoder_without_noise_is_refused(tiny_codec, images):
    denoiser = tiny_codec.decoder.denoiser
    boundary = BoundaryControl(patch=8, overlap=2, noise="zero")
    tiny_codec.decoder = DiffusionDecoder(denoiser=denoiser, boundary=boundary)
    with pytest.raises(ValueError, match="noise `zero`"):
        choose_seed(tiny_codec, images, [0, 1], mse_loss)
    tiny_codec.decoder = BaseReconstruction()
    with pytest.raises(ValueError, match="BaseReconstruction has no boundary"):
        choose_seed(tiny_codec, images, [0, 1], mse_loss)
