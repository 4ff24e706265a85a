import sys

import pytest
from PIL import Image

from ulcompress.evaluation import demo
from ulcompress.images import read_image


@pytest.mark.filterwarnings("ignore:MS-SSIM needs")
def test_own_photograph(tiny_codec, tmp_path, capsys):
    Image.radial_gradient("L").resize((96, 80)).save(tmp_path / "mine.png")
    out = tmp_path / "new" / "out"
    written = demo(tiny_codec, tmp_path / "mine.png", out, caption="a red cup")
    assert written == [out / "mine.ulc", out / "mine_restored.png", out / "mine_comparison.png"]
    restored = tiny_codec.decompress(written[0].read_bytes())
    assert (restored - read_image(written[1])).abs().max() < 0.5 / 255 + 1e-6
    said = capsys.readouterr().out
    for word in ("ulcompress", "AVIF", "JPEG", "bytes", "bpp", str(written[0].stat().st_size)):
        assert word in said


@pytest.mark.filterwarnings("ignore:MS-SSIM needs")
def test_the_rate_is_that_which_is_asked_for(tiny_staged_codec, tmp_path):
    Image.radial_gradient("L").resize((96, 80)).save(tmp_path / "mine.png")
    written = demo(tiny_staged_codec, tmp_path / "mine.png", tmp_path / "out", rate=1)
    assert written[0].read_bytes() == tiny_staged_codec.compress(Image.open(tmp_path / "mine.png"), rate=1)


def test_default_photograph(tiny_codec, tmp_path):
    written = demo(tiny_codec, None, tmp_path)
    names = ["coffee.png", "coffee.ulc", "coffee_restored.png", "coffee_comparison.png"]
    assert [path.name for path in written] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert read_image(written[0]).shape == read_image(written[2]).shape == (3, 400, 600)


def test_without_scikit_image_the_message_says_what_to_install(tiny_codec, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(ValueError, match=r"ulcompress\[demo\]"):
        demo(tiny_codec, None, tmp_path)
