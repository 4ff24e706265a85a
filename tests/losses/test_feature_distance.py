import pytest
import torch
import torchvision
from safetensors.torch import save_file

from ulcompress.losses import FeatureDistance


@pytest.fixture
def distance(random_backbone, one_thread):
    torch.manual_seed(0)
    return FeatureDistance(weights=random_backbone("squeezenet1_1"))


@torch.no_grad()
def test_equals_its_definition(distance, random_backbone):
    """With the root and the mean over the layers written out, on torchvision's own network."""
    network = torchvision.models.squeezenet1_1()
    network.features.load_state_dict(distance.features.state_dict())
    pair = torch.rand(2, 3, 40, 48)
    maps, values = torchvision.transforms.functional.normalize(pair, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), []
    for index, layer in enumerate(network.features):
        maps = layer(maps)
        if index in (1, 4, 7, 9, 10, 11, 12):
            unit = maps / (maps.square().sum(1, keepdim=True) + 1e-8).sqrt()
            values.append((unit[0] - unit[1]).square().sum(0).mean())
    torch.testing.assert_close(distance(pair[:1], pair[1:])[0], torch.stack(values).mean())


@torch.no_grad()
def test_texture_counts_what_there_is_and_not_where(random_backbone, one_thread):
    """Noise that is moved is nearly the same by its Gram matrices, and far off place by place."""
    torch.manual_seed(0)
    weights = random_backbone("squeezenet1_1")
    places, both = FeatureDistance(weights=weights), FeatureDistance(weights=weights, texture=3.0)
    image = torch.rand(1, 3, 96, 96)
    moved, blurred = image.roll(32, -1), torch.nn.functional.avg_pool2d(image, 5, 1, 2, count_include_pad=False)
    texture = [float(both(image, other) - places(image, other)) for other in (image, moved, blurred)]
    assert texture[0] == 0 < texture[1] < 0.2 * texture[2]
    assert float(places(image, moved)) > 0.2 * float(places(image, blurred))
    twice = FeatureDistance(weights=weights, texture=6.0)(image, blurred) - places(image, blurred)
    torch.testing.assert_close(float(twice), 2 * texture[2])
    with pytest.raises(ValueError, match="texture must be at least 0, got -1"):
        FeatureDistance(weights=weights, texture=-1)


@torch.no_grad()
def test_a_shift_cuts_both_images_alike(distance, random_backbone):
    torch.manual_seed(0)
    pair = torch.rand(2, 3, 40, 48)
    shifted = FeatureDistance(weights=random_backbone("squeezenet1_1"), shift=2)
    shifted.load_state_dict(distance.state_dict())
    possible = [distance(pair[:1, :, y:, x:], pair[1:, :, y:, x:]) for y in range(3) for x in range(3)]
    for value in (found := [shifted(pair[:1], pair[1:]) for _ in range(60)]):
        assert min(abs(each - value) for each in possible) < 1e-6
    assert len({round(float(value), 5) for value in found}) == 9, "all shifts occur"
    with pytest.raises(ValueError, match="shift must be at least 0, got -1"):
        FeatureDistance(shift=-1)


def test_the_state_is_that_of_the_backbone(distance):
    assert all(name.startswith("features.") for name in distance.state_dict())


def test_the_file_is_the_one_that_counts(distance, random_backbone, tmp_path):
    torch.manual_seed(1)
    save_file(torchvision.models.squeezenet1_1().state_dict(), tmp_path / "other.safetensors")
    pair = torch.rand(2, 1, 3, 40, 40)
    with torch.no_grad():
        assert torch.equal(FeatureDistance(weights=random_backbone("squeezenet1_1"))(*pair), distance(*pair))
        assert not torch.equal(FeatureDistance(weights=str(tmp_path / "other.safetensors"))(*pair), distance(*pair))


def test_unknown_backbone_is_refused():
    with pytest.raises(ValueError, match=r"backbone 'resnet9' is unknown; name a torchvision classifier"):
        FeatureDistance(backbone="resnet9")


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no file '.*nothing'; weights must be a safetensors file of .*squeezenet1_1"):
        FeatureDistance(weights=str(tmp_path / "nothing"))


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "pickle.pth").write_bytes(b"not what is wanted")
    with pytest.raises(ValueError, match="cannot be read as a state dictionary of torchvision's squeezenet1_1"):
        FeatureDistance(weights=str(tmp_path / "pickle.pth"))


@pytest.mark.parametrize("backbone, levels", [("resnet18", 6), ("efficientnet_b0", 6), ("mobilenet_v3_small", 6)])
def test_any_classifier_of_torchvision(backbone, levels, tmp_path, one_thread):
    """By torchvision's own forward: what is compared last is what its classifier averages."""
    torch.manual_seed(0)
    model = torchvision.models.get_model(backbone, weights=None).eval()
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    distance = FeatureDistance(backbone=backbone, weights=str(tmp_path / "weights.safetensors"))
    assert distance.name == f"{backbone} distance"
    assert len(distance.layers) <= levels and distance.layers[-1] == len(distance.features) - 1
    seen = []
    last = model.layer4 if backbone == "resnet18" else model.features
    last.register_forward_hook(lambda _, __, output: seen.append(output))
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        model(distance.scale(image))
        torch.testing.assert_close(distance.features(distance.scale(image)), seen[0])
        assert distance(image, image) == 0 and distance(image, 1 - image) > 0


@pytest.mark.parametrize("backbone", ["swin_t", "vit_b_16"])
def test_what_is_no_chain_of_convolutions_is_refused(backbone):
    with pytest.raises(ValueError, match="is no chain of convolutional layers"):
        FeatureDistance(backbone=backbone, weights="none.pth")
