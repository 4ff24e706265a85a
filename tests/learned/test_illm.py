import pytest
import torch

import ulcompress
from ulcompress import Codec
from ulcompress.autoencoders import PixelSpace
from ulcompress.conditioning import SynthesisTransform
from ulcompress.decoders import BaseReconstruction
from ulcompress.encoders import AnalysisTransform
from ulcompress.learned.catalogue import PUBLISHED
from ulcompress.learned.illm import MSILLM
from ulcompress.pretrained import save
from ulcompress.pretrained.upgrades import upgrade_experiment
from ulcompress.quantizers import HyperpriorQuantizer


@pytest.fixture
def model(illm_file, illm_sizes):
    return MSILLM(quality=2, weights=str(illm_file), **illm_sizes)


def codec_of(model):
    return Codec(
        autoencoder=PixelSpace(),
        encoder=AnalysisTransform(model=model),
        quantizer=HyperpriorQuantizer(model=model),
        conditioning={"base": SynthesisTransform(model=model)},
        decoder=BaseReconstruction(),
    ).eval()


def one_line(error):
    text = str(error.value)
    assert "\n" not in text and len(text) < 500
    return text


@torch.no_grad()
def test_the_networks_are_those_of_the_authors(authors, model):
    image = torch.rand(1, 3, 64, 128)
    latent = authors.encoder(image)
    assert latent.shape == (1, 6, 4, 8)
    torch.testing.assert_close(model.analysis()(image), latent)
    torch.testing.assert_close(model.synthesis()(latent), authors.decoder(latent))
    networks = model.hyperprior()
    hyper = authors.hyper_analysis(latent)
    torch.testing.assert_close(networks.analysis(latent), hyper)
    scales, means = networks.synthesis(hyper).chunk(2, 1)
    torch.testing.assert_close(scales, authors.hyper_synthesis_scale(hyper))
    torch.testing.assert_close(means, authors.hyper_synthesis_mean(hyper))
    torch.testing.assert_close(networks.prior(hyper).shape, hyper.shape)
    assert torch.equal(networks.prior.biases[2], authors.hyper_bottleneck.biases[2])


def test_newer_names_of_the_prior_are_read_as_well(authors, tmp_path, illm_sizes):
    torch.save(authors.state_dict(), tmp_path / "newer.ckpt")
    prior = MSILLM(quality=2, weights=str(tmp_path / "newer.ckpt"), **illm_sizes).hyperprior().prior
    assert torch.equal(prior.matrices[1], authors.hyper_bottleneck.matrices[1])


@torch.no_grad()
def test_a_saved_codec_needs_the_file_no_more(model, illm_file, tmp_path):
    codec = codec_of(model)
    data = codec.compress(torch.rand(3, 50, 90))
    save(codec, tmp_path / "codec")
    illm_file.unlink()
    loaded = ulcompress.load(tmp_path / "codec")
    assert "CC-BY-NC 4.0" in loaded.quantizer.model.origin
    torch.testing.assert_close(loaded.decompress(data), codec.decompress(data), atol=0.02, rtol=0)


def test_without_a_quality_the_weights_are_random(illm_sizes, one_thread):
    model = MSILLM(**illm_sizes)
    assert model.origin is None
    assert not torch.equal(model.analysis().blocks[0][0].weight, model.analysis().blocks[0][0].weight)


def test_the_published_layout_is_the_default():
    """163 entries, of which the 7 of the latent's bottleneck are tables; 181,481,103 parameters."""
    with torch.device("meta"):
        model = MSILLM()
        hyperprior = model.hyperprior()
        parts = [model.analysis(), model.synthesis(), hyperprior.analysis, hyperprior.synthesis, hyperprior.prior]
    assert [len(part.state_dict()) for part in parts] == [22, 96, 6, 12, 20]
    assert sum(p.numel() for part in parts for p in part.parameters()) == 181_481_103
    shapes = [tuple(parts[n].state_dict()[key].shape) for n, key in enumerate(["blocks.5.weight", "blocks.4.weight"])]
    assert shapes == [(220, 960, 3, 3), (3, 60, 7, 7)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("encoder.blocks.1.0.bias"), r"encoder\.blocks\.1\.0\.bias is missing"),
        (lambda state: state.pop("hyper_bottleneck._bias2"), r"hyper_bottleneck\._bias2 is missing"),
        (lambda state: state.update({"encoder.blocks.9.weight": torch.zeros(1)}), r"blocks\.9\.weight has no place"),
        (lambda state: state.update({"discriminator.weight": torch.zeros(1)}), r"discriminator\.weight has no place"),
        (
            lambda state: state.update({"decoder.blocks.4.bias": torch.zeros(4)}),
            r"decoder\.blocks\.4\.bias has the shape \(4,\), not \(3,\)",
        ),
    ],
)
def test_the_first_weight_that_does_not_fit_is_named(change, message, illm_file, illm_sizes):
    state = torch.load(illm_file, weights_only=True)
    change(state)
    torch.save(state, illm_file)
    with pytest.raises(ValueError, match=rf"msillm\.ckpt does not fit: .*{message}") as error:
        codec_of(MSILLM(quality=2, weights=str(illm_file), **illm_sizes))
    one_line(error)


class Stranger:
    def __reduce__(self):
        return print, ("executed",)


def test_a_file_that_would_execute_something_is_refused(tmp_path, illm_sizes, capsys):
    torch.save({"encoder": Stranger()}, tmp_path / "stranger.ckpt")
    with pytest.raises(ValueError, match=r"cannot read the weights .*stranger\.ckpt"):
        MSILLM(quality=2, weights=str(tmp_path / "stranger.ckpt"), **illm_sizes).analysis()
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quality": 7}, "msillm has the qualities vlo1, vlo2, 1, 2, 3, 4, 5, 6, got 7"),
        ({"name": "noganms", "quality": "vlo1"}, "noganms has the qualities 1, 2, 3, 4, 5, 6, got vlo1"),
        ({"name": "other"}, "name must be msillm or noganms, got 'other'"),
        ({"widths": [4, 5, 6]}, r"widths must be five, for a stride of 16, got \[4, 5, 6\]"),
        ({"weights": "file"}, "weights 'file' need the quality"),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MSILLM(**arguments)


def test_every_published_one_has_its_own_file():
    models = [
        MSILLM(name=name.partition("-")[0], quality=name.partition("-")[2]) for name in PUBLISHED if "ms-" in name
    ]
    models += [MSILLM(name="msillm", quality=quality) for quality in ("vlo1", "vlo2", 1, 2, 3, 4, 5, 6)]
    urls = {model.published.files[0].url for model in models}
    assert len(urls) == 14 and all(url.endswith("bpp.ckpt") for url in urls)


def test_an_experiment_that_names_the_repository_is_read():
    path = "ulcompress.learned.illm.MSILLM"
    old = {"model": {"class_path": path, "init_args": {"quality": 3, "repository": "copy"}}}
    assert upgrade_experiment(old) == {"model": {"class_path": path, "init_args": {"quality": 3}}}
