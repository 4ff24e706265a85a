import random
from dataclasses import replace

import pytest
import torch

import ulcompress
from ulcompress import BitstreamError, Codec
from ulcompress.autoencoders import PixelSpace
from ulcompress.coding import bitstream
from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.conditioning import SynthesisTransform
from ulcompress.decoders import BaseReconstruction
from ulcompress.encoders import AnalysisTransform
from ulcompress.entropy.integers import write_golomb
from ulcompress.learned.compressai import MODELS, CompressAIModel
from ulcompress.pretrained import save
from ulcompress.quantizers import StringQuantizer
from ulcompress.quantizers.strings import Strings, _readable

pytest.importorskip("compressai", reason="compressai does not exist for this Python")

FACTORISED = "bmshj2018-factorized"
KINDS = [FACTORISED, "mbt2018-mean", "mbt2018"]
"""One of each kind of entropy model: factorised, with a hyperprior, autoregressive."""


def model_of(name):
    return CompressAIModel(name=name, sizes=(8,) if name.startswith("cheng") else (8, 6))


@pytest.fixture(params=MODELS)
def name(request, one_thread):
    torch.manual_seed(0)
    return request.param


@pytest.fixture(params=KINDS)
def kind(request, one_thread):
    torch.manual_seed(0)
    return request.param


def features(quantizer, rows, columns, seed=0):
    return 3 * torch.randn(1, quantizer.channels, rows, columns, generator=torch.Generator().manual_seed(seed))


def written(quantizer, symbols):
    coder = ArithmeticEncoder()
    quantizer.write(symbols, coder)
    return coder.finish()


@torch.no_grad()
@pytest.mark.parametrize("grid", [(1, 1), (3, 5)])
def test_every_model_of_the_zoo_codes_its_features(name, grid):
    """Straight after it was built, without a step of training."""
    quantizer = StringQuantizer(model=model_of(name)).eval()
    given = features(quantizer, *grid)
    quantized = quantizer(given)
    data = written(quantizer, quantized.symbols)
    again = quantizer.read(ArithmeticDecoder(data), grid)
    assert again == quantized.symbols
    assert torch.equal(quantizer.dequantize(again), quantized.features)
    assert abs(8 * len(data) - float(quantized.bits)) <= 9
    assert float((quantized.features - given).abs().max()) <= 0.501, "rounded around a mean"


@torch.no_grad()
def test_the_strings_are_those_that_compressai_makes_of_an_image(name):
    model = model_of(name)
    whole = model.model().eval()
    quantizer = StringQuantizer(model=model)
    torch.nn.Module.load_state_dict(quantizer.coder, dict(whole.named_parameters()), strict=False)
    quantizer(features(quantizer, 4, 4))  # one step of training makes the tables of these weights
    whole.update(force=True)
    if hasattr(whole, "context_prediction"):
        whole.context_prediction.weight.data.mul_(whole.context_prediction.mask)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    compressed = whole.compress(image)
    quantized = quantizer.eval()(whole.g_a(image))
    assert quantized.symbols.images == (tuple(string for (string,) in compressed["strings"]),)
    restored = whole.decompress(compressed["strings"], compressed["shape"])["x_hat"]
    torch.testing.assert_close(whole.g_s(quantized.features).clamp(0, 1), restored)


@torch.no_grad()
def test_tables_keep_their_sizes_and_follow_training_alone(name):
    quantizer = StringQuantizer(model=model_of(name))
    quantizer(features(quantizer, 4, 4))
    before = {key: value.clone() for key, value in quantizer.state_dict().items() if not value.is_floating_point()}
    prior = quantizer.coder.entropy_bottleneck
    prior.biases[0].add_(0.5)
    prior.quantiles[..., 0].sub_(7.0)
    prior.quantiles[0, 0, 2] = 5000.0
    quantizer.eval()(features(quantizer, 4, 4))
    quantizer.train()
    assert all(torch.equal(quantizer.state_dict()[key], value) for key, value in before.items())
    quantizer(features(quantizer, 4, 4))
    after = {key: value for key, value in quantizer.state_dict().items() if key in before}
    assert all(after[key].shape == value.shape for key, value in before.items())
    changed = {key.rpartition(".")[2] for key, value in before.items() if not torch.equal(after[key], value)}
    assert changed == {"_offset", "_cdf_length", "_quantized_cdf"}
    quantized = quantizer.eval()(features(quantizer, 4, 4))
    data = written(quantizer, quantized.symbols)
    assert quantizer.read(ArithmeticDecoder(data), (4, 4)) == quantized.symbols


def test_an_encoder_learns_from_the_bits_of_a_quantiser_that_stays(name):
    quantizer = StringQuantizer(model=model_of(name)).eval().requires_grad_(requires_grad=False)
    given = 5 * features(quantizer, 8, 8)  # strings grow by words: what a step saves must be more than one
    with torch.no_grad():
        before = quantizer(given)
    leaf = given.clone().requires_grad_()
    quantized = quantizer(leaf)
    assert quantized.symbols == before.symbols
    assert torch.equal(quantized.bits.detach(), before.bits)
    assert not quantizer.coder.training
    (slope,) = torch.autograd.grad(quantized.bits.sum(), leaf)
    with torch.no_grad():
        assert quantizer(given - 5 * slope.sign()).bits < before.bits


def codec_of(name):
    model = model_of(name)
    return Codec(
        autoencoder=PixelSpace(),
        encoder=AnalysisTransform(model=model),
        quantizer=StringQuantizer(model=model),
        conditioning={"base": SynthesisTransform(model=model)},
        decoder=BaseReconstruction(),
    )


def image_of(height, width):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("trained", [True, False])
def test_a_saved_codec_has_its_tables_and_reads_its_files(kind, tmp_path, trained):
    codec = codec_of(kind)
    if trained:
        with torch.no_grad():
            codec.quantizer.coder.entropy_bottleneck.quantiles[..., 0].sub_(7.0)
            codec(torch.rand(1, 3, 64, 64))
    save(codec.eval(), tmp_path)
    tables = {key: value for key, value in codec.state_dict().items() if not value.is_floating_point()}
    assert tables["quantizer.coder.entropy_bottleneck._cdf_length"].min() > 2
    loaded = ulcompress.load(tmp_path)
    data = loaded.compress(image_of(20, 30))
    restored = ulcompress.load(tmp_path).decompress(data)
    assert restored.shape == (3, 20, 30)
    assert torch.equal(loaded.decompress(data), restored)
    assert loaded.fingerprint == codec.fingerprint
    for key, value in tables.items():
        assert torch.equal(loaded.state_dict()[key], value), key


def test_a_factorised_codec_reads_its_files_with_fewer_digits(one_thread, tmp_path):
    torch.manual_seed(0)
    codec = codec_of(FACTORISED).eval()
    data = codec.compress(image_of(40, 60))
    save(codec, tmp_path)
    torch.testing.assert_close(ulcompress.load(tmp_path).decompress(data), codec.decompress(data), atol=0.01, rtol=0)


def test_training_lowers_rate_and_distortion(one_thread):
    torch.manual_seed(0)
    codec = codec_of(FACTORISED)
    optimizer = torch.optim.Adam(codec.parameters(), lr=3e-3)
    totals = []
    for _ in range(25):
        output = codec(torch.linspace(0, 1, 64).expand(2, 3, 64, 64))
        total = 100 * output.losses["distortion"] + output.bits["spatial"].mean() / 64**2
        optimizer.zero_grad()
        (total + 0.001 * output.losses["quantiles"]).backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert sum(totals[-5:]) < 0.5 * sum(totals[:5])


@torch.no_grad()
@pytest.mark.parametrize("seed", range(4))
def test_broken_strings_are_decoded_the_same_way_each_time(kind, seed):
    """They are read to their end and then as zeros, never as what happens to lie in memory behind them."""
    quantizer = StringQuantizer(model=model_of(kind)).eval()
    generator = torch.Generator().manual_seed(seed)
    strings = quantizer(features(quantizer, 2, 2)).symbols.images[0]
    broken = {
        0: tuple(string[: len(string) // 2] for string in strings),
        1: tuple(b"" for _ in strings),
        2: tuple(b"\xff" * len(string) for string in strings),
        3: tuple(bytes(torch.randint(256, (9,), generator=generator).tolist()) for _ in strings),
    }[seed]
    symbols = Strings((broken,), (2, 2))
    decoded = quantizer.dequantize(symbols)
    assert decoded.shape == (1, quantizer.channels, 2, 2)
    rubbish = [bytes([seed + 17]) * 5000 for _ in range(50)]
    assert torch.equal(quantizer.dequantize(symbols), decoded)
    del rubbish


class Reader:
    """CompressAI's decoder (`rans_interface.cpp`) once more, which says how far it reads."""

    def __init__(self, data):
        self.words = [int.from_bytes(data[start : start + 4], "little") for start in range(0, len(data) // 4 * 4, 4)]
        self.read, self.state = 2, self.words[0] | self.words[1] << 32

    def symbol(self, table, length, offset):
        """Return an integer; None where C++ leaves it open which, since an escape has too many digits."""
        low = self.state & 0xFFFF
        index = next(i for i in range(length) if table[i] > low) - 1
        self.state = (table[index + 1] - table[index]) * (self.state >> 16) + low - table[index]
        self._refill()
        if index < length - 2:
            return index + offset
        digit = self._digit()
        digits = digit
        while digit == 15:
            digit = self._digit()
            digits += digit
        value = sum(self._digit() << 4 * position for position in range(digits))
        return (-(value >> 1) - 1 if value & 1 else (value >> 1) + length - 2) + offset if digits < 6 else None

    def _digit(self):
        digit, self.state = self.state & 15, self.state >> 4
        self._refill()
        return digit

    def _refill(self):
        if self.state < 1 << 31:
            self.state = self.state << 32 | self.words[self.read]
            self.read += 1


def hostile(rng, good):
    """Change a good string, or make one of words that ask for as many digits as can be."""
    words = rng.choice([[0xF], [0, 0xF], [0xFFFFFFFF], [0xFFFFFFFF, 0, 0xF, 0xFFFF], [rng.getrandbits(32)]])
    made = b"".join(rng.choice(words).to_bytes(4, "little") for _ in range(rng.choice([2, 3, 10, 100])))
    place = rng.randrange(len(good))
    return rng.choice([made, good + made, good[:place], good[:place] + made, rng.randbytes(4 * rng.randrange(2, 40))])


@torch.no_grad()
def test_no_string_makes_the_decoder_read_past_the_zeros_it_is_given(one_thread):
    torch.manual_seed(0)
    rng, quantizer = random.Random(0), StringQuantizer(model=model_of(FACTORISED)).eval()
    (good,) = quantizer(features(quantizer, 4, 4)).symbols.images[0]
    prior = quantizer.coder.entropy_bottleneck
    rows = list(zip(prior._quantized_cdf.tolist(), prior._cdf_length.tolist(), prior._offset.tolist(), strict=True))
    medians = prior.quantiles[:, 0, 1]
    for _ in range(300):
        grid, string = rng.choice([(1, 1), (4, 4), (2, 5)]), hostile(rng, good)
        decoded = quantizer.dequantize(Strings(((string,),), grid))[0]
        count = grid[0] * grid[1]
        reader = Reader(_readable(string, len(rows) * count))
        expected = [[reader.symbol(*row) for _ in range(count)] for row in rows]
        for channel, values, median in zip(decoded, expected, medians, strict=True):
            told = [value for value, own in zip(channel.flatten(), values, strict=True) if own is not None]
            sure = torch.tensor([float(own) for own in values if own is not None])
            torch.testing.assert_close(torch.tensor(told), sure + median, rtol=1e-6, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("name", [FACTORISED, "mbt2018-mean"])
def test_hostile_strings_with_a_right_check_are_an_image_or_an_error(one_thread, name):
    torch.manual_seed(0)
    rng, codec = random.Random(0), codec_of(name).eval()
    good = codec.encode(image_of(40, 40))
    outcomes = set()
    for _ in range(60):
        strings = tuple(hostile(rng, string) for string in good.symbols.images[0])
        try:
            restored = codec.decompress(codec.write(replace(good, symbols=Strings((strings,), good.symbols.grid))))
        except BitstreamError as error:
            outcomes.add("error")
            assert "\n" not in str(error)
        else:
            outcomes.add("image")
            assert restored.shape == (3, 40, 40)
    assert outcomes == {"image", "error"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda prior: prior._cdf_length.fill_(5000),
        lambda prior: prior._cdf_length.fill_(1),
        lambda prior: prior._quantized_cdf.fill_(7),
        lambda prior: prior._quantized_cdf[0, 1:].sub_(2),
        lambda prior: prior._quantized_cdf.mul_(3),
        lambda prior: prior._offset.fill_(2**31 - 1),
    ],
)
@pytest.mark.parametrize("part", ["entropy_bottleneck", "gaussian_conditional"])
def test_damaged_tables_never_reach_the_decoder(one_thread, part, damage):
    """They may come from a codec's directory, and CompressAI would read past their ends."""
    quantizer = StringQuantizer(model=model_of("mbt2018-mean")).eval()
    symbols = quantizer(features(quantizer, 2, 2)).symbols
    damage(getattr(quantizer.coder, part))
    for use in (lambda: quantizer(features(quantizer, 2, 2)), lambda: quantizer.dequantize(symbols)):
        with pytest.raises(ValueError, match=f"tables of the codec's {part} are damaged; get the codec again"):
            use()


@pytest.mark.parametrize("payload", [b"", b"\x00" * 30, b"\xff" * 30, bytes(range(60))])
def test_a_file_with_any_payload_ends_in_an_image_or_in_an_error(one_thread, payload):
    torch.manual_seed(0)
    codec = codec_of(FACTORISED).eval()
    header = codec.compress(image_of(20, 20))[: -len(bitstream.payload_of(codec.compress(image_of(20, 20)))) - 2]
    data = header + bitstream.check_of(header, payload) + payload
    try:
        restored = codec.decompress(data)
    except BitstreamError as error:
        # An empty string too: CompressAI writes none.
        assert "the file is damaged: " in str(error)
    else:
        assert 0 <= restored.min() <= restored.max() <= 1


@pytest.mark.parametrize(
    ("length", "told"),
    [(2**24 - 4, "payload of 6 bytes cannot hold"), (0, "a string has 0 bytes"), (4, "has 4"), (13, "has 13")],
)
def test_a_string_of_a_length_that_cannot_be_is_refused(one_thread, length, told):
    """Longer than the payload, or not of whole words."""
    quantizer = StringQuantizer(model=model_of(FACTORISED))
    coder = ArithmeticEncoder()
    write_golomb(length + 1, coder)
    with pytest.raises(BitstreamError, match=told):
        quantizer.read(ArithmeticDecoder(coder.finish()), (3, 3))


def test_what_compressai_raises_becomes_an_error_of_the_file(one_thread, monkeypatch):
    quantizer = StringQuantizer(model=model_of(FACTORISED)).eval()
    symbols = quantizer(features(quantizer, 2, 2)).symbols

    def fail(*_):
        raise ValueError("something is wrong")

    monkeypatch.setattr(quantizer.coder, "decompress", fail)
    with pytest.raises(BitstreamError, match="the strings of the features cannot be decoded: something is wrong"):
        quantizer.dequantize(symbols)
