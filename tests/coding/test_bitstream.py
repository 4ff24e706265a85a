import random
from dataclasses import replace

import pytest
import torch

from ulcompress.coding import bitstream
from ulcompress.coding.bitstream import BitstreamError, Header
from ulcompress.conditioning.base import Conditioner
from ulcompress.conditioning.byte_pairs import BytePairs
from ulcompress.conditioning.text_coder import TextCoder
from ulcompress.entropy import StaticEntropy, UniformEntropy
from ulcompress.entropy.order import spread
from ulcompress.quantizers.base import Quantizer
from ulcompress.records import Code, Quantized

FINGERPRINT = b"\x12\x34\x56"
STRIDE = 64


class Symbols(Quantizer):
    """A grid of symbols without features."""

    channels = 1

    def __init__(self, *, entropy):
        super().__init__()
        self.entropy = entropy
        entropy.build(256)

    def forward(self, features):
        return Quantized(features, features.long(), self.entropy.bits(features.long()))

    def dequantize(self, symbols):
        return symbols.float()

    def write(self, symbols, coder):
        self.entropy.write(symbols, coder)

    def read(self, coder, grid):
        return self.entropy.read(coder, grid)


class Caption(Conditioner):
    """A text."""

    provides = frozenset({"text"})
    sends = True

    def __init__(self):
        super().__init__()
        self.coder = TextCoder(vocabulary=BytePairs(vocabulary_size=300), max_tokens=20)

    def forward(self, side, features, condition):
        return condition

    def write(self, side, coder):
        self.coder.write(side, coder)

    def read(self, coder):
        return self.coder.read(coder)


class Silent(Conditioner):
    """Nothing."""

    provides = frozenset({"spatial"})

    def forward(self, side, features, condition):
        return condition


@pytest.fixture(params=[StaticEntropy, UniformEntropy])
def parts(request):
    torch.manual_seed(0)
    caption, quantizer = Caption(), Symbols(entropy=request.param())
    caption.coder.prepare(["a dog on a red sofa", "a cat on a sofa", "two red cars"] * 3)
    quantizer.entropy.observe(torch.randn(5000).mul(20).abs().long().clamp(max=255))
    return {"conditioning": {"spatial": Silent(), "text": caption}, "quantizer": quantizer, "fingerprint": FINGERPRINT}


def code_of(parts, text="a red dog on a sofa", height=500, width=700):
    grid = Header(1, FINGERPRINT, width, height).grid(STRIDE)
    symbols = torch.randn(1, *grid).mul(20).abs().long().clamp(max=255)
    tokens = parts["conditioning"]["text"].coder.tokens(text)
    return Code(height=height, width=width, symbols=symbols, sides={"spatial": None, "text": tokens})


@pytest.mark.parametrize("size", [(1, 1), (128, 129), (500, 700), (1, 16384)])
@pytest.mark.parametrize("text", ["a red dog on a sofa", ""])
def test_what_is_written_is_read(parts, size, text):
    code = code_of(parts, text, *size)
    data = bitstream.write(code, **parts)
    again = bitstream.read(data, stride=STRIDE, **parts)
    assert (again.height, again.width, again.sides) == (code.height, code.width, code.sides)
    assert torch.equal(again.symbols, code.symbols)
    header, payload = bitstream.parse(data)
    assert header == Header(bitstream.VERSION, FINGERPRINT, width=size[1], height=size[0])
    assert len(data) - len(payload) <= 10
    assert bitstream.write(again, **parts) == data


def test_without_header_only_the_check_is_added(parts):
    code = code_of(parts)
    data = bitstream.write(code, header=False, **parts)
    _, payload = bitstream.parse(bitstream.write(code, **parts))
    assert len(data) - len(payload) == 2
    again = bitstream.read(data, stride=STRIDE, size=(500, 700), **parts)
    assert torch.equal(again.symbols, code.symbols)
    for wrong in (data[:-1], data[:1], b"", data + b"\1"):
        with pytest.raises(BitstreamError, match="truncated"):
            bitstream.read(wrong, stride=STRIDE, size=(500, 700), **parts)
    with pytest.raises(BitstreamError, match="another size than 500 x 700"):
        bitstream.read(data, stride=STRIDE, size=(700, 500), **parts)
    with pytest.raises(BitstreamError, match="another codec than 000000"):
        bitstream.read(data, stride=STRIDE, size=(500, 700), **(parts | {"fingerprint": bytes(3)}))


def test_every_truncation_and_every_flipped_bit_is_seen(parts):
    data = bitstream.write(code_of(parts), **parts)
    damaged = [data[:length] for length in range(len(data))]
    for bit in range(8 * len(data)):
        damaged.append(data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :])
    for other in damaged:
        with pytest.raises(BitstreamError):
            bitstream.read(other, stride=STRIDE, **parts)


def test_random_bytes_are_an_image_or_one_clear_error(parts):
    rng = random.Random(0)
    for trial in range(500):
        data = rng.randbytes(rng.randrange(1, 40))
        if trial % 2:  # past the first gates
            data = bytes([0xB0 + bitstream.VERSION]) + FINGERPRINT + data
        try:
            bitstream.read(data, stride=STRIDE, **parts)
        except BitstreamError as error:
            assert "\n" not in str(error)


def with_check(header, payload):
    return header.pack() + bitstream.check_of(header.pack(), payload) + payload


def test_any_payload_of_the_first_format_is_an_image(parts):
    rng = random.Random(0)
    for _ in range(200):
        data = with_check(Header(1, FINGERPRINT, 300, 200), rng.randbytes(rng.randrange(60)))
        assert bitstream.read(data, stride=STRIDE, **parts).symbols.shape == (1, 4, 5)


def test_no_two_files_hold_the_same_code(parts):
    """A payload is read only if it is the one that is written for what was read."""
    rng = random.Random(0)
    data = bitstream.write(code_of(parts, height=200, width=300), **parts)
    header, payload = bitstream.parse(data)
    others = [payload + end for end in (b"\0", b"\1", b"\0\0", b"end")]
    for other in others:
        with pytest.raises(BitstreamError, match="no encoder writes"):
            bitstream.read(with_check(header, other), stride=STRIDE, **parts)
    for _ in range(300):
        data = with_check(header, rng.randbytes(rng.randrange(30)))
        try:
            code = bitstream.read(data, stride=STRIDE, **parts)
        except BitstreamError:
            continue
        assert bitstream.write(code, **parts) == data


def test_a_format_takes_one_byte_or_few(parts):
    sizes = {(768, 512): 1, (512, 768): 1, (1, 1): 2, (120, 100): 2, (769, 513): 3, (1025, 3): 4, (16384, 16384): 4}
    for (width, height), size in sizes.items():
        data = with_check(Header(2, FINGERPRINT, width, height), b"")
        assert len(data) == 6 + size
        assert bitstream.parse(data, max_pixels=2**28)[0] == Header(2, FINGERPRINT, width, height)


def test_a_file_of_any_size_holds_the_symbols_that_fit(parts):
    code = code_of(parts)
    whole = bitstream.write(code, **parts)
    flat, known = code.symbols.flatten(), []
    for size in range(len(whole) + 2):
        if size < 9:  # 3 of them for this size, which is no common one
            with pytest.raises(ValueError, match=f"max_bytes={size}; an image of this size takes at least 9"):
                bitstream.write(code, max_bytes=size, **parts)
            continue
        data = bitstream.write(code, max_bytes=size, **parts)
        assert len(data) == min(size, len(whole))
        again = bitstream.read(data, stride=STRIDE, **parts)
        same = (again.symbols.flatten() == flat)[spread(*code.symbols.shape[1:])].long().cumprod(0).sum()
        known.append(int(same) if again.sides == code.sides else -1)
        if size < len(whole):
            assert bitstream.parse(data)[0].cut
            prefix = bitstream.read(whole[:size], stride=STRIDE, prefix=True, **parts)
            assert torch.equal(prefix.symbols, again.symbols) and prefix.sides == again.sides
            bare = bitstream.write(code, max_bytes=size - 7, header=False, **parts)
            assert len(bare) == size - 7
            again = bitstream.read(bare, stride=STRIDE, size=(500, 700), **parts)
            assert torch.equal(prefix.symbols, again.symbols)
    assert known == sorted(known) and known[-1] == flat.numel()
    with pytest.raises(BitstreamError, match="its check does not match"):
        bitstream.read(whole[:-3], stride=STRIDE, **parts)


def test_a_file_that_was_cut_lacks_something(parts):
    header, payload = bitstream.parse(bitstream.write(code_of(parts), **parts))
    data = with_check(replace(header, cut=True), payload + b"\0\0\0")
    with pytest.raises(BitstreamError, match="lacks nothing"):
        bitstream.read(data, stride=STRIDE, **parts)


def test_messages_say_what_is_wrong(parts):
    data = bitstream.write(code_of(parts), **parts)
    wide = b"\xb1" + data[1:4] + b"\xff\xff\x00"
    wide += bitstream.check_of(wide, b"")
    cases = {
        "is empty": b"",
        "not a .ulc file: it starts with the byte 0x89": b"\x89PNG\r\n\x1a\n",
        "format version 3, newer than 2": b"\xb3" + data[1:],
        "format version 9, newer than 2": b"\xb9" + data[1:],
        "damaged: 6 bytes have no whole header": data[:6],
        "does not match": data[:-1],
        "says 32768 x 1 pixels": wide,
    }
    for message, wrong in cases.items():
        with pytest.raises(BitstreamError, match=message):
            bitstream.read(wrong, stride=STRIDE, **parts)
    with pytest.raises(BitstreamError, match="needs the codec 123456; this codec is abcdef"):
        bitstream.read(data, stride=STRIDE, **(parts | {"fingerprint": b"\xab\xcd\xef"}))


def forged(width, height, payload):
    head = Header(bitstream.VERSION, FINGERPRINT, width, height).pack()
    return head + bitstream.check_of(head, payload) + payload


def test_a_few_bytes_do_not_ask_for_a_lot_of_work(parts):
    """Every way of reading sees it, before it has read more symbols than the bytes can hold."""
    quantizer = parts["quantizer"]
    rest = {"conditioning": parts["conditioning"], "quantizer": quantizer, "stride": STRIDE}
    for payload in (b"\1", b"\xfe", bytes(range(1, 60))):
        data = forged(8192, 8192, payload)
        readers = {
            "read": lambda data=data: bitstream.read(data, fingerprint=FINGERPRINT, **rest),
            "bits of streams": lambda data=data: bitstream.stream_bits(data, **rest),
        }
        for name, reader in readers.items():
            with pytest.raises(BitstreamError, match=f"payload of {len(payload)} bytes cannot hold the image"):
                print(name, reader())


def test_an_image_of_more_pixels_than_allowed_is_refused(parts):
    code = code_of(parts, height=300, width=400)
    data = bitstream.write(code, **parts)
    assert bitstream.read(data, stride=STRIDE, max_pixels=120_000, **parts).width == 400
    with pytest.raises(BitstreamError, match=r"says 400 x 300 pixels, more than 119999; give --max-pixels"):
        bitstream.read(data, stride=STRIDE, max_pixels=119_999, **parts)
    with pytest.raises(BitstreamError, match="says 16384 x 16384 pixels, more than 67108864"):
        bitstream.parse(forged(16384, 16384, b""))
    assert bitstream.parse(forged(16384, 16384, b""), max_pixels=2**28)[0].width == 16384
    bare = bitstream.write(code, header=False, **parts)
    with pytest.raises(BitstreamError, match="more than 119999"):
        bitstream.read(bare, stride=STRIDE, size=(300, 400), max_pixels=119_999, **parts)


@pytest.mark.parametrize(("height", "width"), [(0, 10), (10, 16385)])
def test_sizes_that_do_not_fit_are_refused(parts, height, width):
    code = Code(height=height, width=width, symbols=torch.zeros(1, 1, 1).long(), sides={"text": []})
    with pytest.raises(ValueError, match="sides are 1 to 16384"):
        bitstream.write(code, **parts)


def test_bits_of_streams_are_those_of_the_symbols(parts):
    code = code_of(parts)
    data = bitstream.write(code, **parts)
    coder, entropy = parts["conditioning"]["text"].coder, parts["quantizer"].entropy
    conditioning, quantizer = parts["conditioning"], parts["quantizer"]
    bits = bitstream.stream_bits(data, conditioning=conditioning, quantizer=quantizer, stride=STRIDE)
    assert bits["text"] == pytest.approx(float(coder.bits([code.sides["text"]])), rel=1e-5)
    assert bits["spatial"] == pytest.approx(float(entropy.bits(code.symbols)), rel=1e-5)
    assert abs(sum(bits.values()) / 8 - len(bitstream.parse(data)[1])) <= 1


def test_seed_is_the_same_everywhere():
    assert bitstream.seed_of(b"") == 16476032584258269876
    assert 0 <= bitstream.seed_of(b"payload") < 2**64
    torch.Generator().manual_seed(bitstream.seed_of(b""))
