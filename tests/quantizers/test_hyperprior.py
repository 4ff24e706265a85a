import pytest
import torch

import ulcompress
from ulcompress import Codec
from ulcompress.autoencoders import PixelSpace
from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.conditioning import SynthesisTransform
from ulcompress.decoders import BaseReconstruction
from ulcompress.encoders import AnalysisTransform
from ulcompress.learned.compressai import HYPERPRIORS, CompressAIModel
from ulcompress.pretrained import save
from ulcompress.quantizers import HyperpriorQuantizer, StringQuantizer

SIZES = (8, 6)


@pytest.fixture(params=HYPERPRIORS)
def name(request, one_thread):
    torch.manual_seed(0)
    return request.param


def with_scales(quantizer, name, scale):
    """Let the scales lie around a number, and put all weights where a saved codec has them."""
    last = quantizer.synthesis[-1 if name == "mbt2018-mean" else -2]
    last.bias.data[: SIZES[1]] = scale
    for parameter in quantizer.parameters():
        parameter.data = parameter.data.half().float()
    return quantizer


def make(name, scale=2.0):
    quantizer = with_scales(HyperpriorQuantizer(model=CompressAIModel(name=name, sizes=SIZES)), name, scale)
    quantizer(features(1, 4, 4))
    return quantizer.eval()


def features(count, rows, columns, seed=0):
    return 2 * torch.randn(count, SIZES[1], rows, columns, generator=torch.Generator().manual_seed(seed))


def compressai_model(quantizer, name):
    """CompressAI's own model of the same weights, without its transforms."""
    model = CompressAIModel(name=name, sizes=SIZES).model()
    model.g_a = model.g_s = torch.nn.Identity()
    (model.h_a if name == "mbt2018-mean" else torch.nn.Sequential(torch.nn.Identity(), model.h_a)).load_state_dict(
        quantizer.analysis.state_dict()
    )
    model.h_s.load_state_dict(quantizer.synthesis.state_dict())
    model.entropy_bottleneck.load_state_dict(quantizer.prior.state_dict())
    return model.eval()


def through_bytes(quantizer, symbols, grid):
    coder = ArithmeticEncoder()
    quantizer.write(symbols, coder)
    data = coder.finish()
    return quantizer.read(ArithmeticDecoder(data), grid), data


@torch.no_grad()
@pytest.mark.parametrize("grid", [(1, 1), (3, 5), (4, 8), (7, 2)])
def test_grids_of_any_size_come_back(name, grid):
    quantizer = make(name)
    quantized = quantizer(features(1, *grid))
    again, data = through_bytes(quantizer, quantized.symbols, grid)
    assert torch.equal(again.latent, quantized.symbols.latent)
    assert torch.equal(again.hyper, quantized.symbols.hyper)
    assert torch.equal(quantizer.dequantize(again), quantized.features)
    assert quantized.features.shape == (1, SIZES[1], *grid)
    assert abs(8 * len(data) - float(quantized.bits)) <= 9


@torch.no_grad()
def test_bits_are_those_of_compressai(name, compressai):
    quantizer, given = make(name), features(2, 16, 16)
    likelihoods = compressai_model(quantizer, name)(given)["likelihoods"]
    expected = sum(-part.log2().sum() for part in likelihoods.values())
    assert float(quantizer(given).bits.sum()) == pytest.approx(float(expected), rel=0.02)
    assert float(quantizer.train()(given).bits.sum()) == pytest.approx(float(expected), rel=0.02)


@torch.no_grad()
def test_features_are_those_of_compressai(name, compressai):
    """Where a difference lies half-way between two integers, the finite digits of ours may decide otherwise."""
    quantizer, given = make(name), features(1, 8, 12)
    strings = StringQuantizer(model=CompressAIModel(name=name, sizes=SIZES))
    weights = dict(compressai_model(quantizer, name).named_parameters())
    torch.nn.Module.load_state_dict(strings.coder, weights, strict=False)
    assert torch.equal(strings.coder.h_s[0].weight, quantizer.synthesis[0].weight)
    theirs = strings.eval()(given).features
    error = (quantizer(given).features - theirs).abs()
    assert float((error < 0.01).float().mean()) > 0.99
    assert float(error.max()) < 1.01


@torch.no_grad()
def test_the_network_that_decides_is_exact_within_its_digits(name):
    quantizer = make(name)
    hyper = quantizer(features(1, 8, 8)).symbols.hyper
    medians = quantizer.prior.quantiles[:, 0, 1][:, None, None]
    floats = quantizer.synthesis(hyper.float() + medians)
    scales, means = quantizer._exact_parameters(hyper, (8, 8))
    torch.testing.assert_close(scales.float(), floats[:, : SIZES[1]], atol=0.01, rtol=0)
    if name == "mbt2018-mean":
        torch.testing.assert_close(means, floats[:, SIZES[1] :], atol=0.01, rtol=0)
    else:
        assert not means.any()


@torch.no_grad()
def test_positions_of_the_smallest_scale_cost_nothing(name):
    quantizer, given = make(name, scale=-50.0), features(1, 8, 8)
    quantized = quantizer(given)
    assert not quantized.symbols.latent.any()
    again, _ = through_bytes(quantizer, quantized.symbols, (8, 8))
    assert torch.equal(quantizer.dequantize(again), quantized.features)
    assert float(quantized.bits) == pytest.approx(float(quantizer._hyper_bits(quantized.symbols.hyper)))
    assert torch.equal(quantizer.anneal(given, 0.3, rate=1).features, quantized.features)


@torch.no_grad()
@pytest.mark.parametrize("largest", [200.0, 1e12])
def test_features_beyond_the_tables_come_back(name, largest):
    quantizer = make(name, scale=100.0)
    given = features(1, 3, 3)
    given[0, 0] = torch.tensor([largest, -largest, 0.0])
    quantized = quantizer(given)
    again, _ = through_bytes(quantizer, quantized.symbols, (3, 3))
    assert torch.equal(again.latent, quantized.symbols.latent)
    assert torch.equal(again.hyper, quantized.symbols.hyper)
    assert max(int(again.latent.abs().max()), int(again.hyper.abs().max())) > 127


@torch.no_grad()
def test_any_bytes_are_features(name):
    quantizer = make(name)
    for seed in range(5):
        data = bytes(torch.randint(256, (60,), generator=torch.Generator().manual_seed(seed)).tolist())
        symbols = quantizer.read(ArithmeticDecoder(data if seed else b"\xff" * 60), (3, 5))
        assert quantizer.dequantize(symbols).isfinite().all()


@torch.no_grad()
def test_tables_follow_training_and_nothing_else(name):
    quantizer = make(name)
    before = quantizer.hyper_counts.clone()
    quantizer.prior.biases[0].add_(1.0)
    quantizer(features(1, 4, 4))
    quantizer.train()
    assert torch.equal(quantizer.hyper_counts, before)
    quantizer(features(1, 4, 4))
    assert not torch.equal(quantizer.hyper_counts, before)
    assert torch.equal(quantizer.hyper_counts, quantizer._count_hyper())


def test_annealing_has_a_gradient_and_tends_to_rounding(name):
    quantizer = make(name)
    given = features(1, 8, 8).requires_grad_()
    quantized = quantizer.anneal(given, 0.4, rate=1)
    (quantized.features.square().sum() + quantized.bits.sum()).backward()
    assert given.grad.isfinite().all()
    assert (given.grad != 0).float().mean() > 0.9
    with torch.no_grad():
        rounded = quantizer(given)
        distances = []
        for temperature in (0.5, 0.1, 0.001):
            torch.manual_seed(0)
            cold = quantizer.anneal(given, temperature, rate=1)
            distances.append(float((cold.features - rounded.features).abs().mean()))
    assert distances[0] > 1.5 * distances[1] > 0
    assert distances[2] < 0.01
    assert float(cold.bits) == pytest.approx(float(rounded.bits), rel=0.02)


def codec_of(name):
    model = CompressAIModel(name=name, sizes=SIZES)
    return Codec(
        autoencoder=PixelSpace(),
        encoder=AnalysisTransform(model=model),
        quantizer=with_scales(HyperpriorQuantizer(model=model), name, 1.0),
        conditioning={"base": SynthesisTransform(model=model)},
        decoder=BaseReconstruction(),
    )


def images():
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(4, 3, 2, 2, generator=generator)
    return torch.nn.functional.interpolate(colours, size=(64, 64), mode="bilinear")


@torch.no_grad()
@pytest.mark.parametrize("height, width", [(64, 64), (17, 90)])
def test_a_saved_codec_reads_the_same_files(name, tmp_path, height, width):
    """Although its weights have fewer digits than those of the codec that wrote them."""
    codec = codec_of(name)
    for parameter in codec.parameters():
        parameter.mul_(1 + 1e-4 * torch.rand_like(parameter))
    codec.train()(images())
    image = images()[0].repeat(1, 1, 2)[:, :height, :width]
    data = codec.eval().compress(image)
    save(codec, tmp_path)
    loaded = ulcompress.load(tmp_path)
    assert loaded.fingerprint == codec.fingerprint
    assert all(
        torch.equal(getattr(loaded.quantizer, table), getattr(codec.quantizer, table))
        for table in ("scales", "latent_counts", "hyper_counts")
    )
    restored = loaded.decompress(data)
    assert restored.shape == (3, height, width)
    torch.testing.assert_close(restored, codec.decompress(data), atol=0.02, rtol=0)
    assert torch.equal(ulcompress.load(tmp_path).decompress(data), restored)
    code = codec.encode(image)
    assert torch.equal(loaded.quantizer.dequantize(code.symbols), codec.quantizer.dequantize(code.symbols))


def test_training_lowers_rate_and_distortion(name):
    codec = codec_of(name)
    optimizer = torch.optim.Adam(codec.parameters(), lr=3e-3)
    totals, rates = [], []
    for _ in range(25):
        output = codec(images())
        rate = output.bits["spatial"].mean() / 64**2
        loss = 100 * output.losses["distortion"] + rate + 0.001 * output.losses["quantiles"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(float((100 * output.losses["distortion"] + rate).detach()))
        rates.append(float(rate.detach()))
    assert sum(totals[-5:]) < 0.5 * sum(totals[:5])
    assert sum(rates[-5:]) < sum(rates[:5])


def test_models_without_an_independent_latent_are_refused(one_thread):
    with pytest.raises(ValueError, match="mbt2018 has another entropy model; use StringQuantizer, or one of"):
        HyperpriorQuantizer(model=CompressAIModel(name="mbt2018", sizes=SIZES))


def test_an_encoder_learns_from_the_bits_of_a_quantiser_that_stays(name):
    quantizer = with_scales(HyperpriorQuantizer(model=CompressAIModel(name=name, sizes=SIZES)), name, 1.5).eval()
    features = 3 * torch.randn(2, quantizer.channels, 5, 8)
    with torch.no_grad():
        bits = quantizer(features).bits
    leaf = features.clone().requires_grad_()
    quantized = quantizer(leaf)
    assert torch.equal(quantized.bits.detach(), bits)
    (slope,) = torch.autograd.grad(quantized.bits.sum(), leaf)
    with torch.no_grad():
        assert (quantizer(features - 3 * slope).bits < bits).all()
