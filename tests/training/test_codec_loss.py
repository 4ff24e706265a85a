"""The terms of a codec's loss, their weights, and what is refused before a training begins."""

import pytest
import torch

from ulcompress.functional import distributed
from ulcompress.losses import AdversarialLoss, FeatureDistance, PatchDiscriminator
from ulcompress.quantizers import HyperpriorQuantizer, StringQuantizer
from ulcompress.training import AutoencoderLoss, CodecLoss, CodecModule, Freezing

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_a_delayed_term_has_no_weight_before_its_step():
    loss = CodecLoss(weights={"rate/spatial": 2.0}, delays={"rate/spatial": 5})
    assert [loss.weight("rate/spatial", step) for step in (0, 4, 5, 9)] == [0, 0, 2, 2]
    assert loss.complete_from == 5


def test_a_rate_counts_where_it_has_a_weight_and_a_part_s_term_always():
    assert (CodecLoss().weight("rate/spatial", 0), CodecLoss().weight("quantiles", 0)) == (0, 1)


def test_squared_error_needs_no_other_term_on_images(tiny_codec):
    output = tiny_codec(IMAGES)
    assert "squared_error" in CodecLoss(weights={"squared_error": 25.0})(tiny_codec, IMAGES, output)
    assert set(CodecLoss()(tiny_codec, IMAGES, output)) == {"diffusion", "commitment", "rate/spatial", "rate/text"}


def test_blurred_error_sees_colour_and_no_texture(tiny_codec, monkeypatch):
    loss = CodecLoss(weights={"blurred_error": 25.0})
    stripes = torch.tensor([0.1, -0.1]).repeat(32).expand(3, 64, 64)
    for error, expected in ((stripes, 0.0), (torch.full((3, 64, 64), 0.1), 0.01)):
        monkeypatch.setattr(tiny_codec.autoencoder, "decode", lambda latent: IMAGES + error)  # noqa: B023
        terms = loss(tiny_codec, IMAGES, tiny_codec(IMAGES))
        assert terms["squared_error"].item() == pytest.approx(0.01, rel=1e-4)
        assert terms["blurred_error"].item() == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_blurred_error_weighs_the_pixels_of_a_narrow_image_alike(tiny_codec, monkeypatch):
    images = torch.rand(1, 3, 64, 72, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(tiny_codec.autoencoder, "decode", lambda latent: images + 0.1)
    terms = CodecLoss(weights={"blurred_error": 1.0})(tiny_codec, images, tiny_codec(IMAGES))
    assert terms["blurred_error"].item() == pytest.approx(0.01, rel=1e-4)


def test_terms_on_images_are_taken_of_some_and_in_training_alone(tiny_codec, squeezenet, monkeypatch):
    adversarial = AdversarialLoss(discriminator=PatchDiscriminator(widths=(8,)))
    loss = CodecLoss(perceptual=FeatureDistance(weights=squeezenet), images=1, adversarial=adversarial)
    output, seen = tiny_codec(IMAGES), []
    decode = tiny_codec.autoencoder.decode
    monkeypatch.setattr(tiny_codec.autoencoder, "decode", lambda latent: seen.append(len(latent)) or decode(latent))
    trained, validated = loss.train()(tiny_codec, IMAGES, output), loss.eval()(tiny_codec, IMAGES, output)
    assert seen == [1, 1]
    assert trained.keys() - validated.keys() == {"adversarial", "discriminator"}
    assert trained.keys() == {
        *tiny_codec.loss_terms,
        "rate/spatial",
        "rate/text",
        *trained.keys() - output.losses.keys(),
    }
    restored = decode(output.estimate[:1])
    torch.testing.assert_close(validated["squared_error"], (restored - IMAGES[:1]).square().mean())


def test_a_term_of_no_weight_has_gradients_where_processes_wait_for_them(monkeypatch):
    loss = CodecLoss(weights={"alone": 0.0})
    for together in (False, True):
        monkeypatch.setattr(distributed, "together", lambda: together)  # noqa: B023
        used, alone = torch.ones((), requires_grad=True), torch.ones((), requires_grad=True)
        total = loss.total({"used": 3 * used, "alone": 2 * alone}, 0)
        assert total == 3
        total.backward()
        assert used.grad == 3 and (alone.grad == 0 if together else alone.grad is None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"weights": {"difusion": 0.0}},
            "no loss term 'difusion'; the terms are commitment, diffusion, rate/spatial, r",
        ),
        ({"delays": {"perceptal": 5}}, "no loss term 'perceptal'"),
        ({"weights": {"distortion": 1.0}}, "no loss term 'distortion'"),
        (
            {"weights": {"diffusion": 0.0}},
            "all of the terms commitment, diffusion, rate/spatial, rate/text have no weig",
        ),
        ({"weights": {"diffusion": 0.0, "perceptual": 1.0}}, "all of the terms"),
    ],
)
def test_terms_are_checked_before_a_training_begins(tiny_codec, options, message):
    with pytest.raises(ValueError, match=message):
        CodecModule(codec=tiny_codec, loss=CodecLoss(**options))


def test_a_weight_of_what_an_ablation_leaves_out_counts_for_nothing(tiny_codec):
    weights = {"rate/syntax": 0.1, "perceptual": 1.0, "adversarial": 0.1, "discriminator": 1.0, "commitment": 1.0}
    module = CodecModule(codec=tiny_codec, loss=CodecLoss(weights=weights, delays={"rate/syntax": 5}))
    assert "rate/syntax" not in module.loss(tiny_codec, IMAGES, tiny_codec(IMAGES))


def test_an_autoencoder_has_its_own_terms():
    AutoencoderLoss(weights={"kl": 0.0, "perceptual": 2.0})
    with pytest.raises(ValueError, match="no loss term 'diffusion'; the terms are absolute_error, kl "):
        AutoencoderLoss(weights={"diffusion": 1.0})


def test_no_images_are_refused():
    with pytest.raises(ValueError, match=r"loss\.images must be at least 1, got 0"):
        CodecLoss(images=0)


@pytest.mark.parametrize("quantizer", [HyperpriorQuantizer, StringQuantizer])
def test_an_entropy_model_that_could_learn_nothing_is_refused(tiny_guided_codec, quantizer, request):
    """Before any data is looked at."""
    if quantizer is StringQuantizer:
        request.getfixturevalue("compressai")
    tiny_guided_codec.quantizer = quantizer()
    weights = {"rate/spatial": 1.0, "rate/syntax": 0.05}
    for stream, slot in {"spatial": "quantizer", "syntax": r"conditioning\.syntax"}.items():
        message = f"the entropy model of `{slot}` learns from the rate alone, which has no weight; set `rate/{stream}`"
        with pytest.raises(ValueError, match=message):
            CodecModule(codec=tiny_guided_codec, loss=CodecLoss(weights=weights | {f"rate/{stream}": 0.0}))
    CodecModule(codec=tiny_guided_codec, loss=CodecLoss(weights=weights, delays={"rate/spatial": 100}))
    freezing = Freezing(frozen=["quantizer", "conditioning.syntax.prior"])
    CodecModule(codec=tiny_guided_codec, freezing=freezing)
