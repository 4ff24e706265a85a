"""A folder of images with captions, and a perceptual network with random weights."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(12):
        Image.fromarray(rng.integers(0, 256, (40, 36, 3), dtype=np.uint8)).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"a red cup {index}\na blue cup\n")
    return str(folder)


@pytest.fixture
def squeezenet(tmp_path):
    import torchvision

    path = tmp_path / "squeezenet.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(torchvision.models.squeezenet1_1().state_dict(), path)
    return str(path)
