import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torchmetrics.image.fid import _compute_fid

from ulcompress.evaluation import FrechetDistance, PooledFeatures
from ulcompress.evaluation.frechet import Gaussian, cut, frechet_distance


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "squeezenet1_1.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(torchvision.models.squeezenet1_1().state_dict(), file)
    return PooledFeatures(weights=str(file))


@pytest.fixture
def images(one_thread):
    return torch.rand(2, 6, 3, 70, 100, generator=torch.Generator().manual_seed(0))


def covariance(size, rank, seed):
    root = torch.randn(size, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root @ root.T / rank


def test_closed_form_of_diagonal_gaussians():
    mean, other_mean = torch.tensor([[1.0, 2.0, 3.0], [1.0, 0.0, 4.0]], dtype=torch.float64)
    deviation, other_deviation = torch.tensor([[1.0, 2.0, 0.0], [3.0, 0.5, 2.0]], dtype=torch.float64)
    value = frechet_distance(mean, deviation.square().diag(), other_mean, other_deviation.square().diag())
    assert value == pytest.approx((0 + 4 + 1) + (4 + 2.25 + 4))


def test_closed_form_of_a_scaled_gaussian():
    """For A and c A the trace of the root is that of A times the root of c, whatever A is."""
    matrix, mean = covariance(20, 30, 0), torch.zeros(20, dtype=torch.float64)
    value = frechet_distance(mean, matrix, mean, 4 * matrix)
    assert value == pytest.approx(float(matrix.trace()))


def test_equals_torchmetrics_on_the_same_statistics():
    means = torch.randn(2, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    one, other = covariance(30, 60, 2), covariance(30, 60, 3)
    expected = float(_compute_fid(means[0], one, means[1], other))
    assert frechet_distance(means[0], one, means[1], other) == pytest.approx(expected, rel=1e-9)


def test_singular_covariances_do_not_blow_up_rounding_errors():
    """Fewer samples than channels are the rule here; 0 is met to the precision of float64, not to its root."""
    matrix, mean = covariance(200, 5, 0), torch.zeros(200, dtype=torch.float64)
    assert frechet_distance(mean, matrix, mean, matrix) < 1e-10


def test_statistics_are_those_of_all_points_however_they_come():
    points = 1000 + torch.randn(50, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    streamed = Gaussian()
    for some in points.split([1, 30, 2, 17]):
        streamed.add(some)
    assert streamed.count == 50
    torch.testing.assert_close(streamed.mean, points.mean(0))
    torch.testing.assert_close(streamed.covariance, points.T.cov(), rtol=1e-10, atol=0)


def test_zero_for_equal_sets_and_more_for_others(features, images):
    equal, other = FrechetDistance(features=features, patch=32), FrechetDistance(features=features, patch=32)
    equal.update(images[0], images[0].flip(0))
    other.update(images[0] * 0.5, images[0])
    assert equal.compute() < 1e-6 * other.compute()


def test_order_and_batches_do_not_matter(features, images):
    whole, parts = FrechetDistance(features=features, patch=32), FrechetDistance(features=features, patch=32)
    restored, originals = images[0] * 0.8, images[1]
    whole.update(restored, originals)
    for index in (3, 1, 0, 5, 4, 2):
        parts.update(restored[index : index + 1], originals[5 - index : 6 - index])
    assert parts.restored.count == whole.restored.count == 6 * 2 * 3
    assert parts.compute() == pytest.approx(whole.compute(), rel=1e-4)


def test_equals_the_statistics_of_pooled_features(features, images):
    """Through images: torchmetrics' formula on the mean and covariance of the network's features."""
    ours = FrechetDistance(features=features, patch=None)
    ours.update(images[0] * 0.5, images[1])
    statistics = []
    for part in (images[0] * 0.5, images[1]):
        with torch.no_grad():
            points = features.features(features.scale(part)).double().flatten(2).mean(2)
        statistics += [points.mean(0), points.T.cov()]
    # Here covariances are singular and torchmetrics takes roots of rounding errors.
    assert ours.compute() == pytest.approx(float(_compute_fid(*statistics)), rel=1e-3)


def test_features_are_one_point_an_image(features, images):
    with torch.no_grad():
        points = features(images[0])
    assert points.shape == (6, 512)
    assert not features.training and not any(parameter.requires_grad for parameter in features.parameters())


def test_patches_tile_the_image_without_overlap():
    images = torch.arange(2 * 3 * 5 * 7.0).view(2, 3, 5, 7)
    patches = cut(images, 2)
    assert patches.shape == (2 * 2 * 3, 3, 2, 2)
    assert torch.equal(patches[0], images[0, :, :2, :2])
    assert torch.equal(patches[5], images[0, :, 2:4, 4:6])
    assert torch.equal(patches[6], images[1, :, :2, :2])


def test_the_name_is_not_fid(features):
    assert FrechetDistance(features=features, patch=None).name == "Fréchet distance on SqueezeNet 1.1 features"
    assert FrechetDistance(features=features).name.endswith("SqueezeNet 1.1 features, patches of 128 pixels")


def test_too_few_samples_are_refused(features, images):
    distance = FrechetDistance(features=features, patch=None)
    with pytest.raises(ValueError, match=r"got 0 samples .* at least 2"):
        distance.compute()
    distance.update(images[0, :1], images[1, :1])
    with pytest.raises(ValueError, match=r"got 1 samples .* at least 2"):
        distance.compute()


def test_images_smaller_than_a_patch_are_refused_and_counted_nowhere(features, images):
    distance = FrechetDistance(features=features, patch=64)
    with pytest.raises(ValueError, match="got an image of 100 x 50 pixels, patches have 64"):
        distance.update(images[0], images[1, :, :, :50])
    assert distance.restored.count == distance.originals.count == 0


def test_a_patch_without_pixels_is_refused(features):
    with pytest.raises(ValueError, match="got patch 0"):
        FrechetDistance(features=features, patch=0)
