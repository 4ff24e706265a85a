import random

import pytest
import torch
from jsonargparse import ArgumentParser

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.conditioning import Conditioner, NeuralSyntax, SyntaxGenerator
from ulcompress.conditioning.neural_syntax import PACE, LogisticPrior
from ulcompress.records import Condition, Source

FEATURES = torch.zeros(4, 2, 1, 3)


@pytest.fixture(autouse=True)
def seeded(one_thread):
    torch.manual_seed(0)


def syntax(dimension=6, width=4, stages=3, sees_base=True, **arguments):
    generator = SyntaxGenerator(dimension=dimension, width=width, stages=stages, sees_base=sees_base)
    return NeuralSyntax(generator=generator, **arguments).eval()


def images(count=4, height=32, width=48):
    """Fields of differing colour and contrast."""
    colour, contrast = torch.rand(count, 3, 1, 1), torch.rand(count, 1, 1, 1)
    return (colour + contrast * torch.randn(count, 3, height, width)).clamp(0, 1)


def encoded(conditioner, image):
    source = Source(image, image, [None] * len(image))
    return conditioner.encode(source, Condition(base=image.mean((2, 3), keepdim=True).expand_as(image)))


def written(conditioner, side):
    coder = ArithmeticEncoder()
    conditioner.write(side, coder)
    return coder.finish()


@torch.no_grad()
def trained_prior(conditioner):
    """Give each element a distribution of its own."""
    conditioner.prior.mean.normal_(0, 3 / PACE)
    conditioner.prior.log_scale.normal_(-1 / PACE, 1 / PACE)
    conditioner.prior.refresh()
    return conditioner


@pytest.mark.parametrize("levels", [1, 7, 40])
def test_every_vector_comes_back(levels):
    conditioner = trained_prior(syntax(dimension=64, levels=levels))
    sides = [torch.randint(-levels, levels + 1, (1, 64)).float() for _ in range(5)]
    sides += [torch.full((1, 64), float(value)) for value in (-levels, 0, levels)]
    for side in sides:
        read = conditioner.read(ArithmeticDecoder(written(conditioner, side)))
        assert read.dtype == side.dtype
        assert torch.equal(read, side)


@torch.no_grad()
def test_nothing_comes_back_as_nothing():
    conditioner = syntax()
    data = written(conditioner, None)
    assert len(data) == 1
    assert conditioner.read(ArithmeticDecoder(data)) is None
    assert conditioner.bits(None).tolist() == [6]


def test_any_bytes_are_a_vector():
    rng, conditioner = random.Random(0), trained_prior(syntax())
    for _ in range(100):
        side = conditioner.read(ArithmeticDecoder(rng.randbytes(rng.randrange(20))))
        assert side is None or (side.shape == (1, 6) and side.abs().max() <= 7)


@torch.no_grad()
def test_bits_in_use_are_those_of_the_message():
    conditioner = trained_prior(syntax(dimension=64))
    coder, sides = ArithmeticEncoder(), torch.randint(-7, 8, (50, 64)).float()
    for side in sides:
        conditioner.write(side[None], coder)
    assert conditioner.bits(sides).shape == (50,)
    assert 8 * len(coder.finish()) == pytest.approx(float(conditioner.bits(sides).sum()), abs=9)


@torch.no_grad()
def test_bits_in_training_are_those_of_the_tables():
    conditioner = trained_prior(syntax(dimension=64))
    likely = (conditioner.prior.counts.argmax(1) - 7.0)[None]
    assert conditioner.train().bits(likely).tolist() == pytest.approx(
        conditioner.eval().bits(likely).tolist(), rel=0.01
    )


@torch.no_grad()
@pytest.mark.parametrize("log_scale", [-6.0, 0.0, 4.0])
def test_probabilities_sum_to_one(log_scale):
    prior = LogisticPrior(3, 5)
    prior.mean.copy_(torch.tensor([0.0, 4.6, -30.0]) / PACE)
    prior.log_scale.fill_(log_scale / PACE)
    costs = torch.stack([prior._costs(torch.full((1, 3), float(k)))[0] for k in range(-5, 6)])
    assert torch.exp2(-costs).sum(0).tolist() == pytest.approx([1] * 3, rel=1e-3)


@torch.no_grad()
def test_probabilities_are_those_of_the_logistic():
    prior = LogisticPrior(1, 7).train()
    prior.mean.fill_(0.7 / PACE)
    prior.log_scale.fill_(0.3 / PACE)
    logistic = torch.sigmoid((torch.arange(-7.5, 8) - 0.7) / torch.tensor(0.3).exp())
    expected = -(logistic.diff() / (logistic[-1] - logistic[0])).log2()
    torch.testing.assert_close(prior.bits(torch.arange(-7.0, 8)[:, None]), expected)


@torch.no_grad()
def test_the_vector_is_small_on_a_kodak_image_whatever_the_tables():
    """As CGDM's, at most 0.005 bpp of 768 x 512; 15 equally likely integers would take 250 bits."""
    conditioner = syntax(dimension=64)
    conditioner.prior.log_scale.fill_(9 / PACE)
    conditioner.prior.refresh()
    assert float(conditioner.bits(torch.full((1, 64), 7.0))) == pytest.approx(250, abs=1)
    conditioner.prior.log_scale.fill_(-9 / PACE)
    conditioner.prior.refresh()
    assert float(conditioner.bits(torch.full((1, 64), 7.0))) < 64 * 16.1 < 0.005 * 768 * 512


@torch.no_grad()
@pytest.mark.parametrize("sees_base", [True, False])
@pytest.mark.parametrize("size", [(64, 64), (100, 333), (512, 768), (1, 1)])
def test_as_many_symbols_for_every_size(size, sees_base):
    side = encoded(syntax(sees_base=sees_base), images(2, *size))
    assert side.shape == (2, 6)
    assert torch.equal(side, side.round())
    assert side.abs().max() <= 7


@torch.no_grad()
def test_the_vector_hardly_depends_on_the_size():
    conditioner, image = syntax(dimension=64), images(4, 64, 96)
    small, large = encoded(conditioner, image), encoded(conditioner, image.tile(4, 4))
    assert (small - large).abs().mean() < 0.5 * (large - large.roll(1, 0)).abs().mean()


@torch.no_grad()
def test_padding_of_the_image_is_not_looked_at():
    generator, image = syntax().generator, images(1)
    base = image.flip(3)
    assert torch.equal(generator(image[..., :20, :33], base[..., :20, :33]), generator(image, base[..., :20, :33]))


@torch.no_grad()
def test_images_and_bases_differ_before_training():
    generator, image = SyntaxGenerator(), images()
    base = image.mean((2, 3), keepdim=True).expand_as(image)
    values = generator(image, base)
    assert values.std(0).mean() > 0.5
    assert (values - generator(image, image)).abs().mean() > 0.3
    assert values.abs().max() < 14


def test_quantize_rounds_within_the_levels():
    conditioner = syntax(levels=3)
    values = torch.tensor([[-90.0, -3.4, -0.6, 0.4, 1.5001, 3.7]], requires_grad=True)
    side = conditioner.quantize(values)
    assert side.tolist() == [[-3, -3, -1, 0, 2, 3]]
    assert torch.equal(conditioner.quantize(side), side)
    side.sum().backward()
    assert torch.equal(values.grad, torch.ones_like(values))


def test_all_integers_can_be_reached():
    conditioner = syntax(dimension=1, sees_base=False, levels=2)
    conditioner.generator.forward = lambda image, base: image[:, :1, 0, 0]
    values = torch.linspace(-9, 9, 200).view(-1, 1, 1, 1)
    side = conditioner.encode(Source(values, values, [None] * 200), Condition())
    assert side.unique().tolist() == [-2, -1, 0, 1, 2]
    assert torch.equal(side == 0, values.flatten(1).abs() < 2 * torch.atanh(torch.tensor(0.25)))


def test_gradients_reach_the_generator_through_the_decoder():
    conditioner = syntax().train()
    condition = conditioner(encoded(conditioner, images()), FEATURES, Condition())
    condition.syntax.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in conditioner.generator.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_gradients_reach_the_generator_through_the_bits(training):
    conditioner = syntax().train(training)
    conditioner.bits(encoded(conditioner, images())).sum().backward()
    parameters = [*conditioner.generator.parameters(), *conditioner.prior.parameters()]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters)


def test_every_parameter_has_a_gradient_in_each_step():
    """Even where no sample is dropped; parallel training asks for it."""
    conditioner = syntax(dropout=0.0).train()
    side = encoded(conditioner, images())
    condition = conditioner(side, FEATURES, Condition())
    (condition.syntax.sum() + conditioner.bits(side).sum()).backward()
    assert all(p.grad is not None for p in conditioner.parameters())


def test_training_for_the_rate_alone_shrinks_the_bits():
    conditioner, image = syntax(dimension=16).train(), images()
    optimizer = torch.optim.Adam(conditioner.parameters(), lr=0.02)
    sizes = []
    for _ in range(110):
        side = encoded(conditioner, image)
        conditioner(side, FEATURES, Condition())
        bits = conditioner.bits(side).mean()
        optimizer.zero_grad()
        bits.backward()
        optimizer.step()
        sizes.append(len(written(conditioner, side[:1].detach())))
    assert sizes[0] >= 5
    assert max(sizes[-10:]) <= 2


@torch.no_grad()
def test_tables_follow_in_training_and_never_otherwise():
    conditioner, side = syntax(), torch.zeros(4, 6)
    before = conditioner.prior.counts.clone()
    conditioner.prior.mean.fill_(2 / PACE)
    data = written(conditioner, side[:1])
    conditioner(side, FEATURES, Condition())
    conditioner.bits(side)
    other = syntax()
    state = conditioner.state_dict().items()
    other.load_state_dict({name: value.half() if value.is_floating_point() else value for name, value in state})
    for loaded in (conditioner, other):
        assert torch.equal(loaded.prior.counts, before)
        assert torch.equal(loaded.read(ArithmeticDecoder(data)), side[:1])
    conditioner.train()(side, FEATURES, Condition())
    assert (conditioner.prior.counts.argmax(1) == 2 + 7).all()
    assert conditioner.bits(side + 2).sum() < conditioner.bits(side).sum()


@torch.no_grad()
def test_a_loaded_table_replaces_the_one_in_use():
    one, other = syntax(), trained_prior(syntax())
    side = torch.randint(-7, 8, (1, 6)).float()
    before = one.bits(side)
    one.load_state_dict(other.state_dict())
    assert torch.equal(one.bits(side), other.bits(side))
    assert not torch.equal(one.bits(side), before)


@torch.no_grad()
@pytest.mark.parametrize(
    "training, dropout, seen", [(True, 0.0, 1.0), (True, 0.25, 0.75), (True, 1.0, 0.0), (False, 1.0, 1.0)]
)
def test_training_drops_a_share_of_the_vectors(training, dropout, seen):
    conditioner = syntax(dropout=dropout).train(training)
    conditioner.null.normal_()
    side = torch.randint(-7, 8, (400, 6)).float()
    vectors = conditioner(side, FEATURES, Condition()).syntax
    dropped = (vectors == conditioner.null).all(1)
    assert 1 - float(dropped.float().mean()) == pytest.approx(seen, abs=0.08)
    assert torch.equal(vectors[~dropped], side[~dropped] * (2 / 7))


@torch.no_grad()
@pytest.mark.parametrize("training", [True, False])
def test_where_nothing_is_sent_the_decoder_sees_the_null_vector(training):
    conditioner = syntax().train(training)
    conditioner.null.normal_()
    vectors = conditioner(None, FEATURES, Condition()).syntax
    assert vectors.shape == (4, 6)
    assert (vectors == conditioner.null).all()


def test_a_missing_base_is_refused():
    conditioner, image = syntax(), images()
    with pytest.raises(ValueError, match="list a conditioner that provides `base`"):
        conditioner.encode(Source(image, image, [None] * 4), Condition())


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="levels is 0; give at least 1"):
        syntax(levels=0)
    with pytest.raises(ValueError, match="dimension=0 and stages=3"):
        SyntaxGenerator(dimension=0, stages=3)
    with pytest.raises(ValueError, match="dimension=4 and stages=2"):
        SyntaxGenerator(dimension=4, stages=2)


def test_it_is_built_again_from_its_configuration():
    conditioner = syntax(sees_base=False, dropout=0.3, levels=4)
    parser = ArgumentParser()
    parser.add_subclass_arguments(Conditioner, "part")
    rebuilt = parser.instantiate(parser.parse_object({"part": conditioner.config()})).part
    assert rebuilt.config() == conditioner.config()
    rebuilt.load_state_dict(conditioner.state_dict())
    image = images()
    assert torch.equal(encoded(rebuilt, image), encoded(conditioner, image))
    assert rebuilt.channels(320) == {"syntax": 6}
