from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from ulcompress.coding import bitstream
from ulcompress.losses import PerceptualDistance
from ulcompress.optimization import OnlineOptimizer
from ulcompress.records import Sampling

EVERYTHING = ["syntax", "features"]


def image_of(height=70, width=90):
    """Smooth colours, with some grain."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(1, 3, 4, 5, generator=generator)
    smooth = F.interpolate(colours, size=(height, width), mode="bilinear", align_corners=True)[0]
    return (smooth + 0.02 * torch.randn(3, height, width, generator=generator)).clamp(0, 1)


def with_syntax(code, values):
    return replace(code, sides=code.sides | {"syntax": torch.tensor([values])})


def same(one, other):
    """Whether two codes of one codec give the same file."""
    return one.sides["syntax"].equal(other.sides["syntax"]) and one.symbols.latent.equal(other.symbols.latent)


@pytest.fixture
def filled_codec(tiny_codec):
    """PerCo's shape, after a batch that has filled the codebook."""
    torch.manual_seed(0)
    with torch.no_grad():
        tiny_codec.train()(torch.rand(4, 3, 64, 64) * torch.linspace(0.1, 1, 64))
    return tiny_codec.eval()


def check_never_worse(optimizer, codec, image, code, steps=12):
    start, told = optimizer.measure(codec, image, code), []
    refined = optimizer.refine(codec, image, code, steps=steps, report=lambda *step: told.append(step))
    assert [step for step, _ in told] == list(range(steps + 1))
    measures = [measure for _, measure in told]
    assert measures[0] == start and measures == sorted(measures, reverse=True)
    data = codec.write(refined)
    restored = codec.decompress(data)
    assert restored.shape == image.shape
    mse = (restored - image).square().mean()
    assert measures[-1] == pytest.approx(100 * float(mse) + 8 * len(data) / image[0].numel(), rel=1e-5)
    return refined, measures[-1] - start


@pytest.mark.parametrize("variables", [None, ["features"], EVERYTHING])
@pytest.mark.parametrize("objective", ["sampler", "training"])
@pytest.mark.parametrize("size", [(1, 1), (70, 90), (40, 150)])
def test_never_worse_by_what_the_decoder_makes_of_the_file(tiny_guided_codec, size, objective, variables):
    optimizer = OnlineOptimizer(variables=variables, objective=objective, crop=64, check_every=3)
    image = image_of(*size)
    check_never_worse(optimizer, tiny_guided_codec, image, tiny_guided_codec.encode(image))


@pytest.mark.parametrize("objective", ["sampler", "training"])
def test_never_worse_with_spatial_symbols_and_a_caption(filled_codec, objective):
    image = image_of()
    code = filled_codec.encode(image, "a red cup")
    optimizer = OnlineOptimizer(objective=objective, crop=48, check_every=3, learning_rate=0.5)
    refined, _ = check_never_worse(optimizer, filled_codec, image, code, steps=6)
    assert refined.sides == code.sides


def test_a_spoilt_syntax_recovers(tiny_guided_codec):
    """The image is what a known syntax gives, so the search has to come back to it."""
    codec = tiny_guided_codec
    known = with_syntax(codec.encode(image_of()), [3.0, -2.0, 1.0, 2.0, -3.0, 0.0])
    image = codec.decode(known, seed=0)
    spoilt = with_syntax(known, [-3.0, 2.0, -1.0, -2.0, 3.0, 0.0])
    optimizer = OnlineOptimizer(sampler_steps=2, learning_rate=0.2, weights={"rate": 0.0})
    start = optimizer.measure(codec, image, spoilt)
    refined = optimizer.refine(codec, image, spoilt, steps=60)
    assert optimizer.measure(codec, image, refined) < 0.3 * start


@pytest.mark.parametrize("objective", ["sampler", "training"])
def test_features_find_a_better_base(tiny_guided_codec, objective):
    image = image_of()
    optimizer = OnlineOptimizer(variables=["features"], objective=objective, learning_rate=0.05)
    code = tiny_guided_codec.encode(image)
    refined, change = check_never_worse(optimizer, tiny_guided_codec, image, code, steps=30)
    assert change < -0.05
    assert torch.equal(refined.sides["syntax"], code.sides["syntax"])


def test_every_tile_of_a_large_image_is_searched(tiny_guided_codec):
    """What no crop shows would only feel the rate."""
    image = image_of(120, 200)
    optimizer = OnlineOptimizer(variables=["features"], crop=64, check_every=1, learning_rate=0.05)
    code = tiny_guided_codec.encode(image)
    changed = []
    refined, change = check_never_worse(optimizer, tiny_guided_codec, image, code, steps=32)
    assert change < -0.01
    different = (refined.symbols.latent != code.symbols.latent).any(1)[0]  # 8 rows and 13 columns of features
    for band in different.chunk(2, 0):
        changed += [bool(tile.any()) for tile in band.chunk(4, 1)]
    assert len(changed) == 8 and all(changed)


def test_a_step_moves_what_its_crop_shows_and_nothing_else(tiny_guided_codec, monkeypatch):
    image, seen = image_of(120, 200), []
    quantizer = tiny_guided_codec.quantizer
    anneal = quantizer.anneal
    monkeypatch.setattr(quantizer, "anneal", lambda x, *given: seen.append(x.detach().clone()) or anneal(x, *given))
    optimizer = OnlineOptimizer(variables=["features"], crop=64, check_every=100)
    optimizer.refine(tiny_guided_codec, image, tiny_guided_codec.encode(image), steps=9)
    moved = [(after != before).any(1)[0] for before, after in pairwise(seen)]
    assert len(moved) == 8 and all(0 < len(places.nonzero()) <= 16 for places in moved)
    assert torch.stack(moved).sum(0).eq(1).all()  # once each, in eight steps


def test_a_search_of_the_syntax_leaves_the_other_streams(tiny_guided_codec, monkeypatch):
    codec, image = tiny_guided_codec, image_of()
    spoilt = with_syntax(codec.encode(image), [5.0] * 6)
    # As many steps as in decoding, so that the gradient is that of the measure, whatever the random weights are.
    optimizer = OnlineOptimizer(weights={"rate": 0.0, "distortion": -1.0}, sampler_steps=codec.decoder.steps)
    refined = optimizer.refine(codec, image, spoilt, steps=30)
    assert not torch.equal(refined.sides["syntax"], spoilt.sides["syntax"])
    restored = codec.decompress(codec.write(refined), steps=0)
    assert torch.equal(restored, codec.decompress(codec.write(spoilt), steps=0))
    # Without the syntax, which comes first and shares one arithmetic code, the bytes are the same.
    monkeypatch.setattr(codec.conditioning["syntax"], "write", lambda side, coder: None)
    payloads = [bitstream.payload_of(codec.write(code)) for code in (spoilt, refined)]
    assert payloads[0] == payloads[1]


def test_the_same_search_finds_the_same(tiny_guided_codec):
    image = image_of()
    code = tiny_guided_codec.encode(image)
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        optimizer = OnlineOptimizer(variables=EVERYTHING, objective="training")
        found.append(optimizer.refine(tiny_guided_codec, image, code, steps=10))
        assert torch.equal(torch.get_rng_state(), state)
    assert same(*found) and not same(found[0], code)


def test_an_interruption_returns_the_best_so_far(tiny_guided_codec):
    image = image_of()
    code = tiny_guided_codec.encode(image)
    told = []

    def interrupt_at(last):
        def report(step, measure):
            told.append(measure)
            if step == last:
                raise KeyboardInterrupt

        return report

    optimizer = OnlineOptimizer(variables=EVERYTHING, check_every=4)
    for last in (0, 3, 9):
        refined = optimizer.refine(tiny_guided_codec, image, code, steps=30, report=interrupt_at(last))
        assert optimizer.measure(tiny_guided_codec, image, refined) == told[-1]
    assert len(told) == 1 + 4 + 10 and told[-1] < told[0]


def test_no_steps_return_the_start(tiny_guided_codec):
    code = tiny_guided_codec.encode(image_of())
    assert OnlineOptimizer().refine(tiny_guided_codec, image_of(), code, steps=0) is code


def test_a_perceptual_distance_is_part_of_the_measure(tiny_guided_codec):
    class Brightness(PerceptualDistance):
        name = "brightness"

        def forward(self, image, reference):
            return (image - reference).mean((1, 2, 3)).abs()

    image = image_of()
    code = tiny_guided_codec.encode(image)
    weights = {"distortion": 0.0, "rate": 0.0, "perceptual": 2.0}
    optimizer = OnlineOptimizer(perceptual=Brightness(), weights=weights, learning_rate=0.05)
    restored = tiny_guided_codec.decompress(tiny_guided_codec.write(code))
    measure = optimizer.measure(tiny_guided_codec, image, code)
    assert measure == pytest.approx(2 * float((restored - image).mean().abs()), rel=1e-4)
    refined = optimizer.refine(tiny_guided_codec, image, code, steps=20)
    assert optimizer.measure(tiny_guided_codec, image, refined) < measure


def test_a_syntax_that_was_left_out_is_not_searched(tiny_guided_codec):
    image = image_of()
    code = tiny_guided_codec.encode(image, without=["syntax"])
    assert code.sides["syntax"] is None
    refined = OnlineOptimizer(check_every=2).refine(tiny_guided_codec, image, code, steps=4)
    assert refined.sides["syntax"] is None
    with pytest.raises(ValueError, match="the code has no variable 'syntax' to search; it has features"):
        OnlineOptimizer(variables=["syntax"]).refine(tiny_guided_codec, image, code)


def test_a_search_keeps_to_the_rate(tiny_staged_codec):
    torch.manual_seed(0)
    tiny_staged_codec.train()(torch.rand(8, 3, 64, 64) * torch.linspace(0.2, 1, 8)[:, None, None, None])
    tiny_staged_codec.eval()
    tiny_staged_codec.decoder.boundary.seed = 0  # else each code has other noise, which matters more than its symbols
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    code = tiny_staged_codec.encode(image, rate=1)
    refined = OnlineOptimizer(check_every=2, learning_rate=0.3).refine(tiny_staged_codec, image, code, steps=20)
    assert len(refined.symbols.indices) == 1
    assert not torch.equal(refined.symbols.indices[0], code.symbols.indices[0])


@pytest.mark.parametrize("name", ["text", "spatial", "nothing"])
def test_what_cannot_be_searched_is_refused(filled_codec, name):
    code = filled_codec.encode(image_of(), "a red cup")
    with pytest.raises(ValueError, match=f"no variable '{name}' to search; it has features"):
        OnlineOptimizer(variables=[name]).refine(filled_codec, image_of(), code)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"objective": "best"}, "objective must be one of sampler, training, got 'best'"),
        ({"variables": []}, "variables is empty"),
        ({"weights": {"lpips": 1.0}}, "weights has the keys distortion, rate, perceptual, got 'lpips'"),
        ({"crop": 0}, "must be at least 1"),
        ({"sampler_steps": 0}, "must be at least 1"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        OnlineOptimizer(**arguments)


def test_never_worse_by_the_decoder_that_will_be_used(tiny_guided_codec):
    """Files are measured with the steps with which they will be restored."""
    image = image_of()
    code = tiny_guided_codec.encode(image)
    optimizer, told, seen = OnlineOptimizer(check_every=1, learning_rate=0.3, crop=64), [], []
    decode = tiny_guided_codec.decode
    tiny_guided_codec.decode = lambda *args, **options: seen.append(args[1].steps) or decode(*args, **options)
    refined = optimizer.refine(
        tiny_guided_codec, image, code, steps=4, sampling=Sampling(steps=5), report=lambda *step: told.append(step[1])
    )
    assert set(seen) == {5}
    measures = [optimizer.measure(tiny_guided_codec, image, each, Sampling(steps=5)) for each in (code, refined)]
    assert measures == [told[0], told[-1]] and measures[1] <= measures[0]


def test_a_search_goes_on_where_another_ended(tiny_guided_codec):
    image = image_of()
    code = tiny_guided_codec.encode(image)
    other = replace(code, symbols=replace(code.symbols, latent=code.symbols.latent + 1))
    optimizer, told = OnlineOptimizer(variables=["features"], crop=64, learning_rate=0.0), []
    refined = optimizer.refine(tiny_guided_codec, image, other, steps=2, report=lambda *step: told.append(step[1]))
    assert same(refined, other)
    assert told[0] == optimizer.measure(tiny_guided_codec, image, other)


def test_an_interruption_before_the_first_step_returns_the_start(tiny_guided_codec, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    image = image_of()
    code = tiny_guided_codec.encode(image)
    monkeypatch.setattr(OnlineOptimizer, "measure", interrupted)
    assert OnlineOptimizer().refine(tiny_guided_codec, image, code, steps=2) is code
