import pytest
import torch
import torchvision
from safetensors.torch import save_file

from ulcompress.losses import FeatureDistance


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = torchvision.models.squeezenet1_1().state_dict()
    path = tmp_path_factory.mktemp("weights") / "squeezenet1_1.safetensors"
    save_file(state, path)
    return str(path)


@pytest.fixture
def distance(weights, one_thread):
    torch.manual_seed(0)
    return FeatureDistance(weights=weights)


def test_zero_with_a_finite_gradient_for_equal_images(distance):
    image = torch.rand(2, 3, 40, 48, requires_grad=True)
    value = distance(image, image.detach().clone())
    assert value.tolist() == [0, 0]
    value.sum().backward()
    assert image.grad.isfinite().all()


def test_black_images_have_a_finite_gradient(distance):
    image = torch.zeros(1, 3, 40, 40, requires_grad=True)
    distance(image, torch.rand(1, 3, 40, 40)).sum().backward()
    assert image.grad.isfinite().all()
    assert image.grad.abs().max() > 0


@torch.no_grad()
def test_symmetric_and_per_image(distance):
    one, other = torch.rand(3, 3, 40, 48), torch.rand(3, 3, 40, 48)
    value = distance(one, other)
    assert value.shape == (3,)
    assert (value > 0).all()
    torch.testing.assert_close(distance(other, one), value)
    torch.testing.assert_close(distance(one[1:2], other[1:2]), value[1:2])


@torch.no_grad()
def test_more_noise_is_further_away(distance):
    image, noise = torch.rand(1, 3, 48, 48), torch.randn(1, 3, 48, 48)
    values = [float(distance(image + scale * noise, image)) for scale in (0.01, 0.05, 0.2)]
    assert values == sorted(values)
    assert values[0] < 0.5 * values[2]


def test_the_ruler_is_fixed(distance):
    assert not distance.train().training
    assert not any(module.training for module in distance.modules())
    assert not any(parameter.requires_grad for parameter in distance.parameters())


@torch.no_grad()
def test_dropout_is_never_active(distance):
    pair = torch.rand(1, 3, 40, 40), torch.rand(1, 3, 40, 40)
    assert torch.equal(distance.train()(*pair), distance(*pair))


def test_the_file_is_the_one_that_counts(distance, weights, tmp_path):
    torch.manual_seed(1)
    save_file(torchvision.models.squeezenet1_1().state_dict(), tmp_path / "other.safetensors")
    pair = torch.rand(1, 3, 40, 40), torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        assert torch.equal(FeatureDistance(weights=weights)(*pair), distance(*pair))
        assert not torch.equal(FeatureDistance(weights=str(tmp_path / "other.safetensors"))(*pair), distance(*pair))


def test_unknown_backbone_is_refused():
    with pytest.raises(ValueError, match="backbone 'resnet9' is unknown; choose one of squeezenet1_1, vgg16, alexnet"):
        FeatureDistance(backbone="resnet9")


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no file '.*nothing'; weights must be a safetensors file of .*squeezenet1_1"):
        FeatureDistance(weights=str(tmp_path / "nothing"))
