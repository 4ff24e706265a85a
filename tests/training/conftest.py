"""A folder of images with captions."""

import pytest


@pytest.fixture
def images(image_folder):
    return image_folder(12, 36, 40)
