"""Files of networks with random weights: torchvision's, without classifiers, and one as a list of layers."""

import pytest
import torch
import torchvision
from safetensors.torch import save_file


@pytest.fixture(scope="session")
def random_backbone(tmp_path_factory):
    """Return a function that writes a backbone once and returns its file."""
    folder = tmp_path_factory.mktemp("backbones")

    def write(name):
        path = folder / f"{name}.safetensors"
        if not path.exists():
            save_file(random_state(name), path)
        return str(path)

    return write


@pytest.fixture
def network_file(random_backbone, two_maps, save_layers, tmp_path):
    """Return a function that gives the file of a backbone of torchvision's, or of the network `two-maps`."""

    def write(name):
        if name == "two-maps":
            return save_layers(two_maps, tmp_path / "two-maps.safetensors")
        return random_backbone(name)

    return write


def random_state(name):
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = getattr(torchvision.models, name)().features.state_dict()
    # He's deviation keeps the features from vanishing in the depth.
    return {
        f"features.{key}": torch.randn(value.shape, generator=generator) * (2 / max(value[0].numel(), 1)) ** 0.5
        if value.ndim > 1
        else torch.zeros(value.shape)
        for key, value in shapes.items()
    }
