import math

import numpy as np
import pytest
from PIL import Image

from ulcompress.bitstream import BitstreamError
from ulcompress.evaluation import measure, measure_all, psnr
from ulcompress.images import ImageError, read_image

pytestmark = pytest.mark.filterwarnings("ignore:MS-SSIM needs")


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_the_rate_is_that_of_the_file_on_disk(tiny_codec, photo, tmp_path):
    result = measure(tiny_codec, photo, caption="a red cup", keep=tmp_path / "kept")
    file = tmp_path / "kept" / "photo.ulc"
    assert (result.image, result.height, result.width) == ("photo.png", 40, 50)
    assert result.bytes == file.stat().st_size
    assert result.bpp == 8 * file.stat().st_size / (40 * 50)
    assert result.encode_seconds > 0 and result.decode_seconds > 0
    assert math.isnan(result.ms_ssim)


def test_the_restored_image_comes_from_that_file_and_is_measured_as_written(tiny_codec, photo, tmp_path):
    result = measure(tiny_codec, photo, keep=tmp_path, steps=1)
    restored = read_image(tmp_path / "photo_restored.png")
    again = tiny_codec.decompress((tmp_path / "photo.ulc").read_bytes(), steps=1)
    assert psnr(restored, read_image(photo)) == result.psnr
    assert (restored - again).abs().max() <= 0.5 / 255 + 1e-6


def test_options_reach_the_codec(tiny_codec, photo):
    plain, told = measure(tiny_codec, photo), measure(tiny_codec, photo, caption="a red cup on a table")
    assert told.bytes > plain.bytes
    assert measure(tiny_codec, photo, steps=1).psnr != plain.psnr
    assert measure(tiny_codec, photo, caption="a cup", guidance=9.0).psnr != measure(tiny_codec, photo).psnr


def test_nothing_is_left_behind_unless_asked(tiny_codec, photo, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    measure(tiny_codec, photo)
    assert sorted(tmp_path.rglob("*")) == [photo, tmp_path / "temporary"]


def test_a_damaged_file_would_not_be_measured(tiny_codec, photo, monkeypatch):
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda path: b"not what was written")
    with pytest.raises(BitstreamError):
        measure(tiny_codec, photo)


def test_unreadable_images_are_named_and_left_out(tiny_codec, photo, tmp_path, capsys):
    broken = tmp_path / "broken [1].png"
    broken.write_bytes(photo.read_bytes()[:100])
    results = measure_all(tiny_codec, [broken, photo, tmp_path / "missing.png"], captions={photo: "a red cup"})
    assert results[0].bytes == measure(tiny_codec, photo, caption="a red cup").bytes
    assert [result.image for result in results] == ["photo.png"]
    said = capsys.readouterr().err
    assert "broken [1].png" in said and "missing.png" in said
    with pytest.raises(ImageError):
        measure(tiny_codec, broken)


def test_files_of_one_name_are_refused_where_they_are_kept(tiny_codec, photo, tmp_path):
    with pytest.raises(ValueError, match="'photo'"):
        measure_all(tiny_codec, [photo, photo.with_suffix(".jpg")], keep=tmp_path)
