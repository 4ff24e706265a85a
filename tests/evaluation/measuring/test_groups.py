"""Which images are measured together."""

import pytest
from PIL import Image

from ulcompress.evaluation.measuring.groups import alike, groups


@pytest.fixture
def images(tmp_path):
    """Five of two sizes, and two files that are none."""
    paths = {name: tmp_path / f"{name}.png" for name in "abcdefg"}
    for name, size in {"a": (6, 4), "b": (4, 6), "d": (6, 4), "f": (6, 4), "g": (4, 6)}.items():
        Image.new("RGB", size).save(paths[name])
    paths["c"].write_bytes(b"no image")
    return paths


def test_groups_are_of_one_size_and_not_too_large(images):
    assert groups(images, 2) == [["a", "d"], ["f"], ["b", "g"], ["c", "e"]]
    assert groups(images, 9) == [["a", "d", "f"], ["b", "g"], ["c", "e"]]


def test_groups_of_one_are_in_the_order_of_the_images(images):
    assert groups(images, 1) == [[name] for name in images]


def test_alike():
    assert alike(["one", "three", "two", "seven"], len) == [["one", "two"], ["three", "seven"]]
    assert alike([], len) == []
