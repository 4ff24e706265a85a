import struct
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageCms

from ulcompress.evaluation.anchors import FACTORS, Anchor, match
from ulcompress.evaluation.metrics import psnr
from ulcompress.images import from_pil


class Raw(Anchor):
    """Pixels in 8 bits, behind as many zeros as a quality asks for."""

    name = "raw"

    def __init__(self, padding, reach=0):
        self.padding = padding
        self.qualities = range(len(padding))
        self.reach = reach
        self.coded = Counter()
        self.prepared = []

    def prepare(self, quality):
        self.prepared.append(quality)

    def encode(self, image, quality):
        self.coded[image.size, quality] += 1
        return struct.pack(">HHI", *image.size, self.padding[quality]) + bytes(self.padding[quality]) + image.tobytes()

    def decode(self, data):
        width, height, padding = struct.unpack_from(">HHI", data)
        return Image.frombytes("RGB", (width, height), data[8 + padding :])


@pytest.fixture
def photo():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((48, 36), Image.Resampling.BICUBIC)


def pixels(image):
    return 8 + 3 * image.width * image.height


def test_the_highest_quality_that_fits_is_taken(photo):
    anchor = Raw([0, 10, 20, 30, 40, 50, 60, 70])
    for budget, quality in [(0, 0), (9, 0), (10, 1), (59, 5), (60, 6), (10**6, 7)]:
        found = match(anchor, photo, pixels(photo) + budget)
        assert (found.quality, found.factor, found.fits) == (quality, 1, True)
        assert len(found.data) == pixels(photo) + 10 * quality
        assert found.restored.tobytes() == photo.tobytes()


def test_every_size_of_file_is_matched_as_by_trying_all_where_sizes_fall_within_reach(photo):
    padding = [0, 30, 20, 45, 40, 35, 60, 50, 90, 80, 70, 65, 100]
    reach = max(b - a for a in range(13) for b in range(a, 13) if padding[b] < padding[a])
    for budget in range(0, 120):
        best = max(quality for quality, size in enumerate(padding) if size <= budget)
        assert match(Raw(padding, reach), photo, pixels(photo) + budget).quality == best
    assert match(Raw(padding), photo, pixels(photo) + 65).quality < 11  # without, the bisection misses it


def test_no_quality_is_coded_twice_and_few_are_coded(photo):
    anchor = Raw(list(range(64)))
    match(anchor, photo, pixels(photo) + 40)
    assert max(anchor.coded.values()) == 1 and len(anchor.coded) <= 7
    assert anchor.prepared == [quality for _, quality in anchor.coded]


def test_the_best_factor_is_taken_where_the_lowest_quality_is_too_large(photo):
    budget = 400
    found = match(Raw([0]), photo, budget)
    assert found.fits and len(found.data) <= budget and found.restored.size == photo.size

    def restored(factor):
        size = [-(-side // factor) for side in photo.size]
        return photo.resize(size, Image.Resampling.LANCZOS).resize(photo.size, Image.Resampling.LANCZOS)

    fitting = [f for f in FACTORS if 8 + 3 * -(-48 // f) * -(-36 // f) <= budget]
    worth = {factor: psnr(from_pil(restored(factor)), from_pil(photo)) for factor in fitting}
    assert found.factor == max(fitting, key=worth.__getitem__) and len(fitting) < len(FACTORS)
    assert found.restored.tobytes() == restored(found.factor).tobytes()
    assert found.smallest == pixels(photo) > budget
    assert found.label == f"RAW q0 at 1/{found.factor} size"


def test_a_reduced_image_takes_its_own_highest_quality(photo):
    found = match(Raw([0, 100, 200, 300]), photo, 700)
    assert found.factor > 1 and found.quality > 0 and len(found.data) <= 700


class Coarse(Raw):
    """Pixels in 1 to 8 bits, by quality; the padding makes the files as long as is asked for."""

    def encode(self, image, quality):
        step = 256 >> (quality + 1)
        return super().encode(image.point([value // step * step for value in range(256)] * 3), quality)


@pytest.mark.parametrize("quality", range(8))
def test_a_poor_quality_at_full_size_gives_way_to_a_better_picture_of_a_reduced_one(photo, quality):
    anchor = Coarse([100 * step for step in range(8)])
    found = match(anchor, photo, pixels(photo) + 100 * quality)
    assert found.fits
    if quality < 4:  # a file of half the sides has room for all 8 bits
        assert found.factor == 2 and found.quality == 7
        full = anchor.decode(anchor.encode(photo, quality))
        assert psnr(from_pil(found.restored), from_pil(photo)) > psnr(from_pil(full), from_pil(photo))
    else:
        assert (found.factor, found.quality) == (1, quality)
        assert {size for size, _ in anchor.coded} == {photo.size}


def test_a_poor_quality_at_full_size_stays_where_no_reduced_one_is_better(photo):
    found = match(Raw([0, 10, 20, 30]), photo, pixels(photo) + 5)
    assert (found.quality, found.factor, found.smallest) == (0, 1, None)


def test_a_budget_that_nothing_reaches_gives_the_smallest_file_marked(photo):
    found = match(Raw([50, 60]), photo, 10)
    assert not found.fits and len(found.data) == 8 + 50 + 3 * 2 * 2
    assert found.restored.size == photo.size and found.label.endswith("over budget")


def test_profile_and_metadata_are_left_out(photo):
    class Telling(Raw):
        def encode(self, image, quality):
            assert not image.info
            return super().encode(image, quality)

    told = photo.copy()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    told.info = {"icc_profile": srgb, "exif": bytes(5000), "xmp": bytes(5000)}
    assert match(Telling([0]), told, 10**6).restored.tobytes() == photo.tobytes()


def test_an_image_of_another_mode_is_coded_as_rgb(photo):
    assert match(Raw([0]), photo.convert("L"), 10**6).restored.tobytes() == photo.convert("L").convert("RGB").tobytes()
