import re

import pytest
import torch

from ulcompress import BitstreamError
from ulcompress.commands.inspection import describe
from ulcompress.pretrained import save

CAPTION = "a red cup on a chair"


@pytest.fixture
def file(tiny_codec, tmp_path):
    image = torch.rand(3, 130, 200, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "photo.ulc"
    path.write_bytes(tiny_codec.compress(image, CAPTION))
    return path


@pytest.fixture
def directory(tiny_codec, tmp_path):
    save(tiny_codec, tmp_path / "mine")
    return tmp_path / "mine"


def sizes_of(text):
    return {name: float(size) for name, size in re.findall(r"^  (\w+) +([\d.]+) bytes$", text, re.MULTILINE)}


def test_names_codec_size_and_rate(tiny_codec, file, directory):
    text = describe(file, str(directory))
    size = file.stat().st_size
    assert f"photo.ulc: {size} bytes, {8 * size / (130 * 200):.4f} bpp" in text
    assert "200 x 130" in text
    assert f"{tiny_codec.fingerprint.hex()} (mine)" in text


@torch.no_grad()
def test_streams_sum_to_the_file(tiny_codec, file, directory):
    sizes = sizes_of(describe(file, str(directory)))
    assert list(sizes) == ["header", "text", "spatial"]
    assert sum(sizes.values()) == pytest.approx(file.stat().st_size, abs=1)
    text = tiny_codec.conditioning["text"]
    assert sizes["text"] == pytest.approx(float(text.bits([text.coder.tokens(CAPTION)])) / 8, abs=0.1)


def test_a_bundled_codec_is_found(file, directory, monkeypatch):
    monkeypatch.setattr("ulcompress.pretrained.location.BUNDLED", directory.parent)
    assert describe(file) == describe(file, str(directory))


def test_without_its_codec_the_payload_is_not_divided(tiny_codec, file):
    text = describe(file)
    assert f"{tiny_codec.fingerprint.hex()} (not found; name it with --codec)" in text
    sizes = sizes_of(text)
    assert list(sizes) == ["header", "payload"]
    assert sum(sizes.values()) == file.stat().st_size


def test_another_codec_is_not_taken_for_it(tiny_codec, file, tmp_path):
    with torch.no_grad():
        tiny_codec.train().encoder.layers[0].bias.add_(1)
    save(tiny_codec.eval(), tmp_path / "other")
    text = describe(file, str(tmp_path / "other"))
    assert f"(not {tmp_path / 'other'})" in text
    assert "payload" in text


def test_an_unknown_codec_is_refused(file):
    with pytest.raises(ValueError, match="no codec 'nothing'"):
        describe(file, "nothing")


def test_a_damaged_file_is_refused(file):
    file.write_bytes(file.read_bytes()[:-1] + b"\x01\x02")
    with pytest.raises(BitstreamError, match="truncated or damaged"):
        describe(file)


def test_streams_of_a_hyperprior_sum_to_the_file(tiny_guided_codec, tmp_path):
    save(tiny_guided_codec, tmp_path / "guided")
    image = torch.rand(3, 70, 90, generator=torch.Generator().manual_seed(0))
    (tmp_path / "photo.ulc").write_bytes(tiny_guided_codec.compress(image))
    sizes = sizes_of(describe(tmp_path / "photo.ulc", str(tmp_path / "guided")))
    assert list(sizes) == ["header", "syntax", "spatial"]
    assert sum(sizes.values()) == pytest.approx((tmp_path / "photo.ulc").stat().st_size, abs=1.2)
