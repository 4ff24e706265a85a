"""Files of the size that was asked for."""

import pytest
import torch

from ulcompress import BitstreamError
from ulcompress.coding import bitstream
from ulcompress.learned.compressai import CompressAIModel
from ulcompress.quantizers import StringQuantizer

CAPTION = "a red cup on a chair"


def image():
    y, x = torch.meshgrid(torch.linspace(0, 1, 130), torch.linspace(0, 1, 200), indexing="ij")
    return torch.stack([x, y, ((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.1).float()])


@pytest.fixture(params=["tiny_codec", "tiny_staged_codec", "tiny_guided_codec"])
def codec(request):
    return request.getfixturevalue(request.param)


@torch.no_grad()
def features(codec, data):
    return codec.quantizer.dequantize(codec.read(data).symbols)


def test_a_file_has_the_bytes_that_it_may_have(codec):
    whole = codec.compress(image())
    taken = len(whole) - len(bitstream.payload_of(whole))
    for size in (taken, taken + 1, (taken + len(whole)) // 2, len(whole) - 1, len(whole), len(whole) + 50):
        data = codec.compress(image(), max_bytes=size)
        assert len(data) == min(size, len(whole))
        assert codec.decompress(data).shape == (3, 130, 200)
    assert data == whole
    bare = codec.compress(image(), max_bytes=12, header=False)
    assert len(bare) == 12 and codec.decompress(bare, size=(130, 200)).shape == (3, 130, 200)


def test_more_bytes_come_nearer_to_the_whole(codec):
    whole = codec.compress(image())
    files = [codec.compress(image(), max_bytes=size) for size in (9, (9 + len(whole)) // 2, len(whole))]
    errors = [float((features(codec, data) - features(codec, whole)).square().mean()) for data in files]
    assert errors[0] > errors[1] >= errors[2] == 0


def test_symbols_are_cut_for_the_caption_that_is_sent(tiny_captioned_codec):
    codec = tiny_captioned_codec
    whole = len(codec.compress(image(), CAPTION))
    for size in (10, whole // 2, whole - 2):
        data = codec.compress(image(), CAPTION, max_bytes=size)
        assert len(data) == size
        assert codec.decompress(data).shape == (3, 130, 200)


def test_every_beginning_of_a_file_is_an_image(tiny_codec):
    data = tiny_codec.compress(image(), CAPTION)
    for size in range(len(data) + 1):
        if size < 9:
            with pytest.raises(BitstreamError):
                tiny_codec.decompress(data[:size], prefix=True)
        elif size % 10 == 9 or size == len(data):
            assert tiny_codec.decompress(data[:size], prefix=True).shape == (3, 130, 200)
    assert tiny_codec.read(data, prefix=True).sides == tiny_codec.read(data).sides


def test_a_caption_is_shortened_at_a_word(tiny_codec):
    codec, whole = tiny_codec, len(tiny_codec.compress(image(), CAPTION))
    coder, texts = codec.conditioning["text"].coder, []
    for size in range(9, whole + 1, 2):
        data = codec.compress(image(), CAPTION, max_bytes=size)
        assert len(data) == size
        texts.append(coder.text(codec.read(data).sides["text"][0]))
    words = CAPTION.split()
    assert texts[0] == "" and set(texts) <= {" ".join(words[:count]) for count in range(len(words) + 1)}
    assert texts == sorted(texts, key=len) and len(set(texts)) > 2


def test_what_cannot_be_is_refused(tiny_codec):
    with pytest.raises(ValueError, match="got max_bytes=8; an image of this size takes at least 9"):
        tiny_codec.compress(image(), max_bytes=8)
    with pytest.raises(ValueError, match="got rate=1 and max_bytes=50; give one"):
        tiny_codec.compress(image(), rate=1, max_bytes=50)


def test_strings_of_others_cannot_be_cut(tiny_guided_codec):
    codec = tiny_guided_codec
    model = CompressAIModel(name="bmshj2018-factorized", sizes=(8, codec.quantizer.channels))
    codec.quantizer = StringQuantizer(model=model).eval()
    whole = codec.compress(image())
    assert codec.compress(image(), max_bytes=len(whole)) == whole
    with pytest.raises(ValueError, match=f"takes {len(whole)} bytes, more than 40, and StringQuantizer cannot"):
        codec.compress(image(), max_bytes=40)
