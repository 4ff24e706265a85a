import io
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from skimage.data import coffee

from ulcompress.evaluation.anchors import ANCHORS, FORMATS, match
from ulcompress.evaluation.metrics import psnr
from ulcompress.images import from_pil


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(np.ascontiguousarray(coffee()[100:196, 200:328]))  # 128 x 96


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("budget", [420, 700, 3000])
def test_a_reachable_budget_is_kept(photo, name, budget):
    anchor = ANCHORS[name]()
    anchor.check()
    found = match(anchor, photo, budget)
    assert found.fits and len(found.data) <= budget
    assert found.restored.size == photo.size and found.restored.mode == "RGB"
    with Image.open(io.BytesIO(found.data)) as coded:
        assert coded.format == FORMATS[name].pillow
        assert coded.size == tuple(-(-side // found.factor) for side in photo.size)


@pytest.mark.parametrize("name", FORMATS)
def test_the_next_quality_would_be_too_large(photo, name):
    anchor = ANCHORS[name]()
    found = match(anchor, photo, 3000)
    place = anchor.qualities.index(found.quality)
    assert found.factor == 1 and place > 0
    assert len(anchor.encode(photo, anchor.qualities[place + 1])) > 3000


@pytest.mark.parametrize("name", FORMATS)
def test_a_generous_budget_gets_the_highest_quality(photo, name):
    anchor = ANCHORS[name]()
    found = match(anchor, photo, 10**6)
    assert found.quality == anchor.qualities[-1]
    assert psnr(from_pil(found.restored), from_pil(photo)) > 38


def test_the_largest_file_within_a_budget_is_found_where_sizes_fall(photo):
    anchor, small = ANCHORS["jxl"](), photo.resize((32, 24), Image.Resampling.LANCZOS)
    sizes = [len(anchor.encode(small, quality)) for quality in anchor.qualities]
    assert any(late < early for early, late in pairwise(sizes))
    for budget in range(min(sizes[0], 300), max(sizes), 130):
        found = match(anchor, small, budget)
        fitting = [quality for quality, size in zip(anchor.qualities, sizes, strict=True) if size <= budget]
        assert found.factor > 1 if sizes[0] > budget else found.factor > 1 or found.quality == fitting[-1]
        assert found.factor == 1 or not fitting or fitting[-1] < len(sizes) / 2


def test_jpeg_2000_transforms_colour_and_has_a_bare_codestream(photo):
    data = ANCHORS["jpeg2000"]().encode(photo, 50)
    assert data[:4] == b"\xff\x4f\xff\x51" and b"OpenJPEG" not in data
    plain = io.BytesIO()
    photo.save(plain, "JPEG2000", irreversible=True, no_jp2=True, quality_layers=[50])
    with Image.open(plain) as image:
        worse = psnr(from_pil(image), from_pil(photo))
    assert psnr(from_pil(ANCHORS["jpeg2000"]().decode(data)), from_pil(photo)) > worse + 0.5


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("size", [(1, 1), (31, 1), (3, 2)])
def test_the_smallest_images_are_coded(name, size):
    found = match(ANCHORS[name](), Image.new("RGB", size, "red"), 10**6)
    assert found.fits and found.restored.size == size


def test_a_format_that_this_pillow_lacks_is_refused(monkeypatch):
    monkeypatch.delitem(Image.SAVE, "AVIF")
    with pytest.raises(ValueError, match="cannot write avif; run `pip install pillow`"):
        ANCHORS["avif"]().check()
    monkeypatch.delitem(Image.SAVE, "JXL")
    with pytest.raises(ValueError, match="pip install pillow-jxl-plugin"):
        ANCHORS["jxl"]().check()
