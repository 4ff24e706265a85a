import inspect

import pytest
import torch

from ulcompress import conditioning
from ulcompress.conditioning import (
    BytePairs,
    Conditioner,
    ContextMixing,
    NeuralSyntax,
    SpatialFeatures,
    SyntaxGenerator,
    SynthesisTransform,
    TextCoder,
    TextPrompt,
    TextureEnergy,
    TokenTransformer,
)
from ulcompress.learned.compressai import CompressAIModel
from ulcompress.records import Condition, Source
from ulcompress.testing import check_conditioner

CAPTIONS = ["a red cup on a table", "a cat on a red chair", None, "", "two cups, and much more than fits: ÄÖÜ 一只狗"]
FEATURES = torch.arange(6.0).view(1, 2, 1, 3)


def prompt(**arguments):
    torch.manual_seed(0)
    text = TextPrompt(
        coder=TextCoder(vocabulary=BytePairs(vocabulary_size=300), max_tokens=12),
        encoder=TokenTransformer(vocabulary_size=300, max_tokens=12, channels=8, layers=1, heads=2),
        **arguments,
    )
    text.prepare([caption for caption in CAPTIONS if caption])
    return text.eval()


def prompt_of_contexts():
    torch.manual_seed(0)
    return TextPrompt(
        coder=ContextMixing(vocabulary=BytePairs(vocabulary_size=300), slots=1000),
        encoder=TokenTransformer(vocabulary_size=300, max_tokens=12, channels=8, layers=1, heads=2),
    ).eval()


def syntax():
    torch.manual_seed(0)
    return NeuralSyntax(generator=SyntaxGenerator(dimension=8, width=4, stages=3, sees_base=False))


def synthesis():
    torch.manual_seed(0)
    return SynthesisTransform(model=CompressAIModel(sizes=(4, 2)))


def syntax_of_the_base():
    torch.manual_seed(0)
    return NeuralSyntax(generator=SyntaxGenerator(dimension=8, width=4, stages=3))


def syntax_of_texture():
    torch.manual_seed(0)
    return NeuralSyntax(generator=TextureEnergy(bands=3, classes=2))


CASES = [syntax, syntax_of_the_base, syntax_of_texture, SpatialFeatures, synthesis, prompt, prompt_of_contexts]


@pytest.fixture(params=CASES, ids=lambda make: make.__name__)
def conditioner(request, one_thread):
    return request.param()


def source(*captions):
    return Source(torch.zeros(len(captions), 3, 8, 24), torch.zeros(len(captions), 4, 1, 3), list(captions))


def test_every_class_is_here():
    exported = (getattr(conditioning, name) for name in conditioning.__all__)
    classes = {c for c in exported if inspect.isclass(c) and issubclass(c, Conditioner)}
    assert {c for c in classes if not inspect.isabstract(c)} == {type(make()) for make in CASES}


def test_it_keeps_the_contract(conditioner):
    check_conditioner(conditioner)


def test_spatial_features_are_handed_on():
    assert SpatialFeatures()(None, FEATURES, Condition()).spatial is FEATURES


def test_the_base_is_clamped_but_for_training():
    transform = synthesis()
    torch.nn.init.constant_(transform.network[-1].bias, 1.0)
    condition = transform.train()(None, FEATURES, Condition())
    assert condition.base.shape == (1, 3, 16, 48)
    assert condition.base.requires_grad and condition.base.max() > 1
    in_use = transform.eval()(None, FEATURES, Condition()).base
    assert torch.equal(in_use, condition.base.clamp(0, 1))


@torch.no_grad()
@pytest.mark.parametrize("value", [1e30, -1e30, torch.inf, torch.nan])
def test_features_of_a_broken_file_give_a_base_that_can_be_shown(value):
    base = synthesis().eval()(None, torch.full((1, 2, 1, 1), value), Condition()).base
    assert 0 <= base.min() <= base.max() <= 1


@torch.no_grad()
def test_captions_of_a_batch_do_not_see_each_other(one_thread):
    text = prompt()
    together = text(text.encode(source(*CAPTIONS), Condition()), FEATURES, Condition())
    assert text.bits(text.encode(source(*CAPTIONS), Condition())).shape == (len(CAPTIONS),)
    for number, caption in enumerate(CAPTIONS):
        alone = text(text.encode(source(caption), Condition()), FEATURES, Condition())
        assert int(together.text_mask[number].sum()) == int(alone.text_mask.sum()) > 0
        torch.testing.assert_close(together.text[number][together.text_mask[number]], alone.text[0])


@torch.no_grad()
def test_the_null_text_is_that_of_an_empty_caption(one_thread):
    text = prompt()
    condition = text([[70, 71], [72]], FEATURES, Condition())
    empty = text([[]], FEATURES, Condition())
    assert condition.text_null.shape == (2, 1, 8)
    assert torch.equal(condition.text_null, empty.text.expand(2, 1, 8))
    assert empty.text_mask.all()
    assert not torch.allclose(condition.text[:, 1], condition.text_null[:, 0])


@torch.no_grad()
@pytest.mark.parametrize("training, dropout, seen", [(True, 0.0, 1.0), (True, 0.25, 0.75), (True, 1.0, 0.0)])
def test_training_drops_a_share_of_the_captions(one_thread, training, dropout, seen):
    text = prompt(dropout=dropout).train(training)
    mask = text([[70, 71]] * 400, FEATURES, Condition()).text_mask
    assert float((mask.sum(1) > 1).float().mean()) == pytest.approx(seen, abs=0.08)


@torch.no_grad()
def test_nothing_is_dropped_in_use(one_thread):
    mask = prompt(dropout=1.0)([[70, 71]] * 5, FEATURES, Condition()).text_mask
    assert mask.shape == (5, 3)
    assert mask.all()


@torch.no_grad()
def test_dropped_captions_still_cost_their_bits(one_thread):
    text = prompt(dropout=1.0)
    side = text.encode(source("a red cup on a table"), Condition())
    in_use = text.bits(side)
    assert torch.equal(text.train().bits(side), in_use)
    assert float(in_use) > 1


def test_gradients_reach_the_text_encoder(one_thread):
    text = prompt()
    condition = text(text.encode(source("a red cup"), Condition()), FEATURES, Condition())
    condition.text.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in text.encoder.parameters())


def test_prepare_learns_once():
    text = prompt()
    merges = text.coder.vocabulary.merges.clone()
    text.prepare(["quite different words, quite different words"])
    assert torch.equal(text.coder.vocabulary.merges, merges)
