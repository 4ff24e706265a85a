from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageColor

from ulcompress.evaluation import Measurement, Panel, side_by_side
from ulcompress.evaluation.picture import MARGIN, NARROWEST

COLOURS = ["red", "lime", "blue"]
MEASURED = Measurement(60, 120, 90, 0.1, 21.5, 0.5, 1.0, 1.0)


def panels(size=(480, 300)):
    return [Panel(name, Image.new("RGB", size, name), MEASURED if name != "red" else None) for name in COLOURS]


def test_every_panel_is_shown_with_its_caption_and_detail(tmp_path):
    side_by_side([panels()], tmp_path / "picture.png")
    picture = np.asarray(Image.open(tmp_path / "picture.png"))
    assert picture.shape[1] == MARGIN + 3 * (480 + MARGIN)
    for index, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
        left = MARGIN + index * (480 + MARGIN)
        column = picture[:, left : left + 480]
        assert (column == colour).all(-1).sum() == 2 * 480 * 300  # the image, and its detail as large
        assert (column == 0).all(-1)[: MARGIN + 60].any()  # the caption above is black
    assert (picture[:, :MARGIN] == 255).all()


def test_the_detail_is_the_part_that_was_asked_for(tmp_path):
    image = Image.new("RGB", (400, 300), "white")
    image.paste("red", (10, 20, 60, 45))
    side_by_side([[Panel("one", image)]], tmp_path / "picture.png", detail=(10, 20, 60, 45))
    picture = np.asarray(Image.open(tmp_path / "picture.png"))
    assert (picture == (255, 0, 0)).all(-1).sum() == 50 * 25 + 400 * 200


def test_small_images_leave_room_for_captions_and_long_ones_fit(tmp_path):
    panel = Panel("a name that is much too long to be written in one line at the usual size", Image.new("RGB", (8, 4)))
    side_by_side([[panel]], tmp_path / "picture.png")
    picture = np.asarray(Image.open(tmp_path / "picture.png"))
    assert picture.shape[1] == NARROWEST + 2 * MARGIN
    assert (picture[:60, -MARGIN - 2 :] == 255).all()


def test_numbers_are_those_of_the_measurement():
    original, restored, _ = panels()
    assert original.numbers == "480 x 300 pixels"
    assert restored.numbers == "90 bytes, 0.1000 bpp, 21.50 dB"
    assert replace(restored, note="at half size").numbers == "90 bytes, 0.1000 bpp, 21.50 dB (at half size)"


def test_what_cannot_be_shown_is_refused(tmp_path):
    with pytest.raises(ValueError, match="all of one size"):
        side_by_side([panels(), panels((5, 5))], tmp_path / "picture.png")
    with pytest.raises(ValueError, match="at least one"):
        side_by_side([], tmp_path / "picture.png")
    with pytest.raises(ValueError, match="within it"):
        side_by_side([panels()], tmp_path / "picture.png", detail=(0, 0, 500, 5))


def test_rows_are_below_each_other_and_may_be_shorter(tmp_path):
    side_by_side([panels(), panels()[1:]], tmp_path / "picture.webp")
    with Image.open(tmp_path / "picture.webp") as opened:
        assert opened.format == "WEBP"
        picture = np.asarray(opened.convert("RGB")).astype(int)
    assert picture.shape[1] == MARGIN + 3 * (480 + MARGIN)
    near = {name: np.abs(picture - ImageColor.getrgb(name)).max(-1) < 16 for name in COLOURS}
    counts = [near[name].sum() / (480 * 300) for name in COLOURS]
    assert counts == pytest.approx([1, 2, 2], rel=0.05)  # and no enlarged details
    assert near["lime"][picture.shape[0] // 2 :, : MARGIN + 480].sum() > 0.95 * 480 * 300
