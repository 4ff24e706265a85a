"""A folder of images with captions, and the warnings that Lightning gives in every training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

EXCEPTED = [
    "ignore:.*does not have many workers",
    "ignore:Found .* in eval mode",  # the autoencoder and the perceptual distance, which are not trained
    "ignore:Precision bf16-mixed is not supported by the model summary",
    "ignore:Checkpoint directory .* exists and is not empty",
    "ignore:Total length of `list` across ranks is zero",  # no validation
    "ignore:The number of training batches",
]
"""Warnings of Lightning that say nothing about this project; looked at with Lightning 2.6.6 in November 2026."""


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for line in EXCEPTED:
                item.add_marker(pytest.mark.filterwarnings(line))


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
