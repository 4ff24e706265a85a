"""Parts of the two methods in one codec: it trains, codes and comes back from disk, or is refused at once."""

import pytest
import torch
from lightning import Trainer
from torch.utils.data import DataLoader

import ulcompress
from ulcompress import Codec
from ulcompress.autoencoders import KLAutoencoder, PixelSpace
from ulcompress.conditioning import (
    BytePairs,
    NeuralSyntax,
    SpatialFeatures,
    SyntaxGenerator,
    SynthesisTransform,
    TextCoder,
    TextPrompt,
    TokenTransformer,
)
from ulcompress.data.batch import Batch
from ulcompress.decoders import BaseReconstruction, DiffusionDecoder
from ulcompress.denoisers import ConsistencyEncoder, GuidedUNet, UNet
from ulcompress.diffusion import BaseEstimate, DiscreteSchedule, Objective
from ulcompress.encoders import AnalysisTransform, HyperEncoder
from ulcompress.learned.compressai import CompressAIModel
from ulcompress.part import Part
from ulcompress.pretrained import save
from ulcompress.quantizers import FiniteScalarQuantizer, HyperpriorQuantizer, VectorQuantizer
from ulcompress.training import CodecLoss, CodecModule

CAPTIONS = ["a red cup on a table", "a cat"]
MODEL = CompressAIModel(sizes=(8, 8))


def syntax(*, sees_base):
    generator = SyntaxGenerator(dimension=6, width=4, stages=3, sees_base=sees_base)
    return NeuralSyntax(generator=generator, dropout=0.3)


def text():
    return TextPrompt(
        coder=TextCoder(vocabulary=BytePairs(vocabulary_size=300), max_tokens=8),
        encoder=TokenTransformer(vocabulary_size=300, max_tokens=8, channels=16, layers=1, heads=2),
    )


def latents(**changes):
    """PerCo's shape, with a syntax."""
    denoiser = UNet(maps={"spatial": 8}, text_channels=8, syntax_channels=6, widths=(32, 32), head_channels=8)
    return {
        "autoencoder": KLAutoencoder(widths=(8, 8)),
        "encoder": HyperEncoder(stride=16, width=8, channels=8),
        "quantizer": VectorQuantizer(codebook_size=16, channels=8, dimension=4),
        "conditioning": {"syntax": syntax(sees_base=False), "spatial": SpatialFeatures()},
        "decoder": DiffusionDecoder(denoiser=denoiser, steps=2),
    } | changes


def pixels(*, text_channels=None, **changes):
    """CGDM's shape."""
    sizes = {"widths": (8, 8), "patch_size": 4, "blocks": 1}
    branch = ConsistencyEncoder(**sizes)
    denoiser = GuidedUNet(**sizes, consistency=branch, syntax_channels=6, text_channels=text_channels)
    cosine = DiscreteSchedule(beta_schedule="squaredcos_cap_v2")
    objective = Objective(schedule=cosine, prediction="sample", min_snr=5.0)
    return {
        "autoencoder": PixelSpace(),
        "encoder": AnalysisTransform(model=MODEL),
        "quantizer": HyperpriorQuantizer(model=MODEL),
        "conditioning": {"base": SynthesisTransform(model=MODEL), "syntax": syntax(sees_base=True)},
        "decoder": DiffusionDecoder(denoiser=denoiser, objective=objective, estimate=BaseEstimate(), steps=2),
    } | changes


def captions_on_a_base():
    given = pixels(text_channels=16)
    return given | {"conditioning": {"text": text(), **given["conditioning"]}}


def hyperprior_under_latents():
    quantizer = HyperpriorQuantizer(model=MODEL)
    denoiser = UNet(maps={"spatial": 8}, text_channels=8, widths=(32, 32), head_channels=8)
    decoder = DiffusionDecoder(denoiser=denoiser, steps=2)
    conditioning = {"spatial": SpatialFeatures()}
    encoder = AnalysisTransform(model=MODEL)
    return latents(encoder=encoder, quantizer=quantizer, conditioning=conditioning, decoder=decoder)


MIXTURES = {
    "a syntax with latent diffusion": latents,
    "captions with consistency guidance": captions_on_a_base,
    "a codebook as base": lambda: pixels(quantizer=VectorQuantizer(codebook_size=16, channels=8, dimension=4)),
    "levels as base": lambda: pixels(quantizer=FiniteScalarQuantizer(levels=(4, 4, 4), channels=8)),
    "a codebook alone": lambda: pixels(
        quantizer=VectorQuantizer(codebook_size=16, channels=8, dimension=4),
        conditioning={"base": SynthesisTransform(model=MODEL)},
        decoder=BaseReconstruction(),
    ),
    "a hyperprior with latent diffusion": hyperprior_under_latents,
}


def image_of(seed, height=64, width=64):
    """Noise that brightens from left to right."""
    noise = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))
    return noise * torch.linspace(0.1, 1, width)


def trained(parts):
    """Return a codec after a step from random weights, also where layers begin at zero, and the step's gradients."""
    torch.manual_seed(0)
    codec = Codec(**parts())
    codec.prepare(CAPTIONS)
    for parameter in codec.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    loss = CodecLoss(weights={"rate/syntax": 0.1, "rate/spatial": 0.1, "commitment": 0.1})
    module = CodecModule(codec=codec, loss=loss)
    gradients = {}
    module.on_after_backward = lambda: gradients.update(
        {name: None if p.grad is None else p.grad.clone() for name, p in codec.named_parameters() if p.requires_grad}
    )
    batch = Batch(torch.stack([image_of(seed) for seed in range(4)]), [*CAPTIONS, None, CAPTIONS[0]])
    loader = DataLoader([batch], batch_size=None)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(max_steps=1, num_sanity_val_steps=0, accelerator="cpu", enable_model_summary=False, **quiet)
    trainer.fit(module, train_dataloaders=loader, val_dataloaders=loader)
    assert trainer.logged_metrics["train/loss"].isfinite()
    return codec, gradients


@pytest.mark.parametrize("parts", MIXTURES.values(), ids=MIXTURES)
def test_it_trains_codes_and_comes_back_from_disk(parts, one_thread, tmp_path):
    codec, gradients = trained(parts)
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients.values())
    for name, part in codec.named_modules():
        own = [gradient for key, gradient in gradients.items() if key.startswith(f"{name}." if name else "")]
        if isinstance(part, Part) and own:
            assert any(gradient is not None and gradient.any() for gradient in own), name
    codec.eval()
    image, caption = image_of(9, 40, 70), CAPTIONS[0] if codec.takes_captions else None
    data = codec.compress(image, caption)
    restored = codec.decompress(data, seed=1)
    assert restored.shape == image.shape
    assert torch.equal(restored, codec.decode(codec.encode(image, caption), seed=1))
    save(codec, tmp_path / "codec")
    loaded = ulcompress.load(tmp_path / "codec")  # its weights are in half precision
    torch.testing.assert_close(loaded.decompress(data, seed=1), restored, atol=0.02, rtol=0)


@pytest.mark.parametrize("name", ["a syntax with latent diffusion", "captions with consistency guidance"])
def test_the_decoder_sees_all_that_is_sent(name, one_thread):
    codec = trained(MIXTURES[name])[0].eval()
    caption = CAPTIONS[0] if codec.takes_captions else None
    whole = codec.encode(image_of(9), caption)
    sent = [name for name, part in codec.conditioners.items() if part.sends]
    for stream in sent:
        less = codec.encode(image_of(9), caption, without=[stream])
        assert len(codec.write(less)) < len(codec.write(whole)), stream
        assert not torch.allclose(codec.decode(less, seed=1), codec.decode(whole, seed=1), atol=1e-4), stream


REFUSED = {
    "a decoder that nobody steers": (
        lambda: pixels(conditioning={"base": SynthesisTransform(model=MODEL)}),
        r"DiffusionDecoder needs syntax, which none of .* \(SynthesisTransform\) provides; list one that does",
    ),
    "a syntax that compares with a base that nobody gives": (
        lambda: latents(conditioning={"spatial": SpatialFeatures(), "syntax": syntax(sees_base=True)}),
        r"NeuralSyntax needs base, which none of the conditioners before it \(SpatialFeatures\) provides; list one",
    ),
    "a syntax before its base": (
        lambda: pixels(conditioning={"syntax": syntax(sees_base=True), "base": SynthesisTransform(model=MODEL)}),
        r"NeuralSyntax needs base, .* \(there are none\) .* or take a SyntaxGenerator with `sees_base` false",
    ),
    "a syntax that the latent decoder does not take": (
        lambda: latents(decoder=DiffusionDecoder(denoiser=UNet(maps={"spatial": 8}, widths=(32, 32)))),
        "NeuralSyntax provides syntax, of which DiffusionDecoder can use nothing; it can use spatial, text",
    ),
    "a syntax of another length": (
        lambda: latents(
            decoder=DiffusionDecoder(
                denoiser=UNet(maps={"spatial": 8}, syntax_channels=5, widths=(32, 32), head_channels=8)
            )
        ),
        "NeuralSyntax gives 6 syntax channels but DiffusionDecoder takes 5",
    ),
    "a caption that the guided decoder does not take": (
        lambda: pixels(conditioning={"text": text(), **pixels()["conditioning"]}),
        "TextPrompt provides text, text_mask, text_null, of which DiffusionDecoder can use nothing",
    ),
    "a synthesis of other channels": (
        lambda: pixels(
            conditioning={
                "base": SynthesisTransform(model=CompressAIModel(sizes=(8, 6))),
                "syntax": syntax(sees_base=True),
            }
        ),
        "HyperpriorQuantizer gives 8 channels but SynthesisTransform takes 6",
    ),
    "a synthesis of another stride": (
        lambda: pixels(encoder=HyperEncoder(stride=8, width=8, channels=8, latent_channels=3, latent_stride=1)),
        "HyperEncoder gives 8 pixels a feature position but SynthesisTransform takes 16",
    ),
    "a base over a latent": (
        lambda: pixels(autoencoder=KLAutoencoder(channels=3, widths=(8, 8))),
        "KLAutoencoder gives 8 pixels a latent position but DiffusionDecoder takes 1",
    ),
    "a decoder without its base": (
        lambda: pixels(conditioning={"spatial": SpatialFeatures()}),
        r"DiffusionDecoder needs base, syntax, which none of the conditioners \(SpatialFeatures\) provides",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_with_both_names(case):
    parts, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        Codec(**parts())
