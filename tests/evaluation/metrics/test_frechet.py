import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torchmetrics.image.fid import _compute_fid

from ulcompress.evaluation import PooledFeatures
from ulcompress.evaluation.metrics.frechet import cut, frechet_of_points


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "squeezenet1_1.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(torchvision.models.squeezenet1_1().state_dict(), file)
    return PooledFeatures(weights=str(file))


def points(count, channels, seed):
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def theirs(*sets):
    return float(_compute_fid(*(moment for each in sets for moment in (each.mean(0), each.T.cov()))))


def test_closed_forms():
    """A shift adds its square; for covariances A and c A the trace of the root is that of A times the root of c."""
    one = points(200, 5, 0)
    assert frechet_of_points(one, one + 3) == pytest.approx(45)
    assert frechet_of_points(one, 2 * one - one.mean(0)) == pytest.approx(float(one.T.cov().trace()))


def test_equals_torchmetrics_on_the_same_statistics():
    one, other = points(80, 30, 1), 2 * points(60, 30, 2) + 1
    assert frechet_of_points(one, other) == pytest.approx(theirs(one, other), rel=1e-9)


def test_equals_the_dense_formula_with_fewer_points_than_channels():
    """There torchmetrics takes roots of rounding errors."""
    one, other = points(12, 30, 3), 2 * points(9, 30, 4) + 1
    assert frechet_of_points(one, other) == pytest.approx(theirs(one, other), rel=1e-3)


def test_few_points_do_not_blow_up_rounding_errors():
    """Equal sets have 0 to the precision of float64, not to its root."""
    one = points(6, 200, 0)
    assert frechet_of_points(one, one.flip(0)) < 1e-10


def test_features_are_one_point_an_image(features, one_thread):
    with torch.no_grad():
        found = features(torch.rand(6, 3, 70, 100))
    assert found.shape == (6, 512)
    assert not features.training and not any(parameter.requires_grad for parameter in features.parameters())


def test_patches_tile_the_image_without_overlap():
    images = torch.arange(2 * 3 * 5 * 7.0).view(2, 3, 5, 7)
    patches = cut(images, 2)
    assert patches.shape == (2 * 2 * 3, 3, 2, 2)
    assert torch.equal(patches[0], images[0, :, :2, :2])
    assert torch.equal(patches[5], images[0, :, 2:4, 4:6])
    assert torch.equal(patches[6], images[1, :, :2, :2])


def test_images_smaller_than_a_patch_are_refused():
    with pytest.raises(ValueError, match="got an image of 50 x 70 pixels, patches have 64"):
        cut(torch.rand(1, 3, 70, 50), 64)
