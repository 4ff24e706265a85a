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
    for word in ("ulcompress", "AVIF", "bytes", "bpp", str(written[0].stat().st_size)):
        assert word in said


@pytest.mark.filterwarnings("ignore:MS-SSIM needs")
def test_the_rate_is_that_which_is_asked_for(tiny_staged_codec, tmp_path):
    Image.radial_gradient("L").resize((96, 80)).save(tmp_path / "mine.png")
    written = demo(tiny_staged_codec, tmp_path / "mine.png", tmp_path / "out", rates=[1])
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


@pytest.mark.filterwarnings("ignore:MS-SSIM needs")
def test_every_rate_is_a_row_and_every_number_of_steps_and_anchor_a_column(tiny_staged_codec, tmp_path, monkeypatch):
    rows = []
    module = sys.modules["ulcompress.evaluation.demo"]  # its name in the package is that of the function
    monkeypatch.setattr(module, "side_by_side", lambda panels, path: rows.extend(panels))
    Image.radial_gradient("L").resize((96, 80)).save(tmp_path / "mine.png")
    options = {"steps": [1, 2], "anchors": ["jpeg", "webp"], "picture": tmp_path / "mine.webp"}
    written = demo(tiny_staged_codec, tmp_path / "mine.png", tmp_path / "out", **options)
    rates = range(1, tiny_staged_codec.quantizer.rates + 1)
    ends = (".ulc", "_steps-1_restored.png", "_steps-2_restored.png")
    files = [tmp_path / "out" / f"mine_rate-{rate}{end}" for rate in rates for end in ends]
    assert written == [*files, tmp_path / "mine.webp"]
    for rate, row in zip(rates, rows, strict=True):
        original, one, two, jpeg, webp = row
        assert (original.name, one.name, two.name) == (
            "original",
            f"ulcompress, rate {rate}, steps 1",
            f"ulcompress, rate {rate}, steps 2",
        )
        assert jpeg.name.startswith("JPEG") and webp.name.startswith("WEBP")
        data = tiny_staged_codec.compress(Image.open(tmp_path / "mine.png"), rate=rate)
        assert one.measurement.bytes == two.measurement.bytes == len(data)


def test_an_unknown_anchor_is_refused_before_anything_is_written(tiny_codec, tmp_path):
    with pytest.raises(ValueError, match="got the anchor 'gif'; known are jpeg"):
        demo(tiny_codec, None, tmp_path / "out", anchors=["gif"])
    assert not (tmp_path / "out").exists()
