import io

import numpy as np
import pytest
from PIL import Image
from skimage.data import coffee

from ulcompress.evaluation.anchors import ANCHORS, FACTORS, FORMATS, Anchor, match


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(np.ascontiguousarray(coffee()[100:228, 200:392]))  # 192 x 128


class Counting(Anchor):
    """Sizes that are known: a tenth of the pixels times the quality."""

    name = "counting"
    qualities = range(1, 65)

    def __init__(self):
        self.coded = []

    def encode(self, image, quality):
        self.coded.append((image.size, quality))
        return bytes(image.width * image.height * quality // 10)

    def decode(self, data):
        return Image.new("RGB", (8, 8), "red")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("budget", [400, 700, 5000])
def test_a_reachable_budget_is_kept(photo, name, budget):
    found = match(ANCHORS[name](), photo, budget)
    assert found.fits and len(found.data) <= budget
    assert found.restored.size == photo.size and found.restored.mode == "RGB"
    with Image.open(io.BytesIO(found.data)) as coded:
        assert coded.format == FORMATS[name].pillow
        assert coded.size == tuple(-(-side // found.factor) for side in photo.size)


@pytest.mark.parametrize("name", FORMATS)
def test_the_next_quality_would_be_too_large(photo, name):
    anchor = ANCHORS[name]()
    found = match(anchor, photo, 5000)
    place = list(anchor.qualities).index(found.quality)
    assert found.factor == 1 and 0 < place < len(anchor.qualities) - 1
    assert len(anchor.encode(photo, anchor.qualities[place + 1])) > 5000


def test_bisection_codes_few_times_and_nothing_twice():
    anchor = Counting()
    assert match(anchor, Image.new("RGB", (10, 10)), 405).quality == 40
    assert len(anchor.coded) == len(set(anchor.coded)) <= 8


def test_a_generous_budget_gets_the_highest_quality(photo):
    assert match(ANCHORS["jpeg"](), photo, 10**6).quality == 95


def test_an_image_is_reduced_only_where_its_lowest_quality_is_too_large(photo):
    lowest = len(ANCHORS["jpeg"]().encode(photo, 1))
    reduced = match(ANCHORS["jpeg"](), photo, 500)
    assert reduced.factor in FACTORS and len(reduced.data) <= 500 < lowest
    assert reduced.label == f"JPEG q{reduced.quality} at 1/{reduced.factor} size"
    assert match(ANCHORS["jpeg"](), photo, lowest).factor == 1


def test_a_budget_that_nothing_reaches_gives_the_smallest_file_marked(photo):
    found = match(ANCHORS["jpeg"](), photo, 10)
    assert not found.fits and len(found.data) > 10
    assert found.restored.size == photo.size
    assert found.label.endswith("over budget")


def test_profile_and_metadata_are_left_out(photo):
    told = photo.copy()
    told.info = {"icc_profile": bytes(5000), "exif": bytes(5000), "xmp": bytes(5000)}
    for name in FORMATS:
        assert match(ANCHORS[name](), told, 5000).data == match(ANCHORS[name](), photo, 5000).data


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("size", [(1, 1), (5, 3)])
def test_the_smallest_images_are_coded(name, size):
    assert match(ANCHORS[name](), Image.new("RGB", size, "red"), 10**6).restored.size == size


def test_what_cannot_be_written_is_one_line(monkeypatch):
    ANCHORS["jxl"]().check()
    monkeypatch.delitem(Image.SAVE, "AVIF")
    with pytest.raises(ValueError, match="cannot write avif; run `pip install pillow`"):
        ANCHORS["avif"]().check()
