"""A folder of images with captions, and a perceptual network with random weights."""

import pytest
import torch
from safetensors.torch import save_file


@pytest.fixture
def images(image_folder):
    return image_folder(12, 36, 40)


@pytest.fixture
def squeezenet(tmp_path):
    import torchvision

    path = tmp_path / "squeezenet.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(torchvision.models.squeezenet1_1().state_dict(), path)
    return str(path)
