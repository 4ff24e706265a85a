import pytest
import torch

from ulcompress.evaluation.metrics.remembered import MOST_PIXELS, Remembered


@pytest.fixture
def asked():
    return []


@pytest.fixture
def function(asked):
    return Remembered(lambda images: asked.append(1) or float(images.sum()))


def test_equal_images_are_answered_once(function, asked):
    images = torch.rand(2, 3, 4, 4)
    assert function(images) == function(images.clone()) == float(images.sum()) and len(asked) == 1


def test_other_images_are_answered_anew(function, asked):
    images = torch.rand(2, 3, 4, 4)
    answers = [function(images), function(images[:1]), function(1 - images), function(images)]
    assert answers == [float(some.sum()) for some in (images, images[:1], 1 - images, images)] and len(asked) == 4


def test_large_images_are_not_kept(function, asked):
    images = torch.zeros(1, 1, 1, MOST_PIXELS + 1)
    function(images)
    function(images)
    assert len(asked) == 2 and function.last is None
