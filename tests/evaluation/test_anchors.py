import io

import numpy as np
import pytest
from PIL import Image
from skimage.data import coffee

from ulcompress.evaluation import encode_to
from ulcompress.evaluation.anchors import FACTORS, FORMATS


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(np.ascontiguousarray(coffee()[100:228, 200:392]))  # 192 x 128


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("budget", [400, 700, 5000])
def test_a_reachable_budget_is_kept(photo, format, budget):
    anchor = encode_to(photo, format, budget)
    assert anchor.fits and len(anchor.data) <= budget
    assert anchor.image.size == photo.size and anchor.image.mode == "RGB"
    with Image.open(io.BytesIO(anchor.data)) as coded:
        assert coded.format == format.upper()
        assert coded.size == tuple(-(-side // round(1 / anchor.scale)) for side in photo.size)


@pytest.mark.parametrize("format", FORMATS)
def test_the_next_quality_would_be_too_large(photo, format):
    anchor = encode_to(photo, format, 5000)
    file = io.BytesIO()
    photo.save(file, format, quality=anchor.quality + 1, **FORMATS[format][1])
    assert anchor.scale == 1 and anchor.quality > FORMATS[format][0][0]
    assert len(file.getvalue()) > 5000


def test_a_generous_budget_gets_the_highest_quality(photo):
    assert encode_to(photo, "JPEG", 10**6).quality == 95


def test_an_image_is_reduced_only_where_its_lowest_quality_is_too_large(photo):
    lowest = len(encode_to(photo, "JPEG", 0).data)
    reduced = encode_to(photo, "JPEG", 500)
    assert reduced.scale < 1 and lowest < len(reduced.data) <= 500
    assert round(1 / reduced.scale) in FACTORS
    assert reduced.label == f"JPEG q{reduced.quality} at 1/{round(1 / reduced.scale)} size"


def test_a_budget_that_nothing_reaches_gives_the_smallest_file_marked(photo):
    anchor = encode_to(photo, "JPEG", 10)
    assert not anchor.fits and len(anchor.data) > 10
    assert anchor.image.size == photo.size
    assert anchor.label.endswith("over budget")


def test_profile_and_metadata_are_left_out(photo):
    told = photo.copy()
    told.info = {"icc_profile": bytes(5000), "exif": bytes(5000), "xmp": bytes(5000)}
    for format in FORMATS:
        assert encode_to(told, format, 5000).data == encode_to(photo, format, 5000).data


def test_the_smallest_image_is_coded():
    for format in FORMATS:
        assert encode_to(Image.new("RGB", (1, 1), "red"), format, 10**6).image.size == (1, 1)


def test_unknown_formats_are_refused(photo, monkeypatch):
    with pytest.raises(ValueError, match="JPEG, WebP, AVIF"):
        encode_to(photo, "PNG", 100)
    monkeypatch.delitem(Image.SAVE, "AVIF")
    with pytest.raises(ValueError, match="cannot write AVIF"):
        encode_to(photo, "AVIF", 100)
