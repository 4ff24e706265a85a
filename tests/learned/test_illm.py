import shutil

import pytest
import torch

import ulcompress
from ulcompress import Codec
from ulcompress.autoencoders import PixelSpace
from ulcompress.conditioning import SynthesisTransform
from ulcompress.decoders import BaseReconstruction
from ulcompress.encoders import AnalysisTransform
from ulcompress.learned.compressai import compressai
from ulcompress.learned.illm import MSILLM
from ulcompress.pretrained import save
from ulcompress.quantizers import HyperpriorQuantizer

SIZES = {"widths": [4, 5, 6, 7, 8], "channels": 6, "hyper_channels": 10, "blocks": 2}
HUB = """
import torch
from torch import nn
from compressai.entropy_models import EntropyBottleneck, GaussianConditional

dependencies = ["torch"]


class Norm(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.gamma, self.beta = nn.Parameter(1 + torch.rand(1, n, 1, 1)), nn.Parameter(torch.randn(1, n, 1, 1))

    def forward(self, x):
        return self.gamma * (x - x.mean(1, True)) / (x.var(1, True) + 0.001).sqrt() + self.beta


def stage(kind, a, b, **options):
    return nn.Sequential(kind(a, b, 3, stride=2, padding=1, **options), Norm(b), nn.ReLU())


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        convolutions = nn.Conv2d(n, n, 3, padding=1), nn.Conv2d(n, n, 3, padding=1)
        self.sequence = nn.Sequential(convolutions[0], Norm(n), nn.ReLU(), convolutions[1], Norm(n))

    def forward(self, x):
        return x + self.sequence(x)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        first = nn.Sequential(nn.Conv2d(3, 4, 7, padding=3), Norm(4), nn.ReLU())
        stages = [stage(nn.Conv2d, n, n + 1) for n in (4, 5, 6, 7)]
        self.blocks = nn.Sequential(first, *stages, nn.Conv2d(8, 6, 3, padding=1))

    def forward(self, x):
        return self.blocks(x)


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.block_0 = nn.Sequential(Norm(6), nn.Conv2d(6, 8, 3, padding=1), Norm(8))
        self.resid_blocks = nn.Sequential(Block(8), Block(8))
        stages = [stage(nn.ConvTranspose2d, n, n - 1, output_padding=1) for n in (8, 7, 6, 5)]
        self.blocks = nn.Sequential(*stages, nn.Conv2d(4, 3, 7, padding=3))

    def forward(self, x):
        first = self.block_0(x)
        return self.blocks(first + self.resid_blocks(first))


def up(a, b):
    return nn.ConvTranspose2d(a, b, 5, stride=2, padding=2, output_padding=1)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = Encoder(), Generator()
        down = [nn.Conv2d(10, 10, 5, stride=2, padding=2) for _ in range(2)]
        self.hyper_analysis = nn.Sequential(nn.Conv2d(6, 10, 3, padding=1), nn.ReLU(), down[0], nn.ReLU(), down[1])
        for name in ("mean", "scale"):
            layers = up(10, 10), nn.ReLU(), up(10, 10), nn.ReLU(), nn.Conv2d(10, 6, 3, padding=1)
            setattr(self, f"hyper_synthesis_{name}", nn.Sequential(*layers))
        self.hyper_bottleneck, self.latent_bottleneck = EntropyBottleneck(10), GaussianConditional(None)


def msillm_quality_2(pretrained=True):
    assert pretrained
    torch.manual_seed(7)
    model = Model()
    model.hyper_bottleneck.update()
    return model


def msillm_quality_5(pretrained=True):
    raise ValueError("Unrecognized weights,\\nmust be one of others")
"""


@pytest.fixture
def repository(tmp_path, one_thread):
    """A hub with a small model of the same layout, written anew."""
    torch.manual_seed(0)
    directory = tmp_path / "hub"
    directory.mkdir()
    (directory / "hubconf.py").write_text(HUB)
    return str(directory)


@pytest.fixture
def authors(repository):
    compressai()
    return torch.hub.load(repository, "msillm_quality_2", source="local")


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


def old_names(state):
    """As CompressAI named its weights when MS-ILLM was published."""
    for new, old in (("matrices.", "_matrix"), ("biases.", "_bias"), ("factors.", "_factor")):
        state = {key.replace(f"bottleneck.{new}", f"bottleneck.{old}"): value for key, value in state.items()}
    return state


@torch.no_grad()
@pytest.mark.parametrize("source", ["hub", "file"])
def test_the_networks_are_those_of_the_authors(repository, authors, tmp_path, source):
    arguments = {"repository": repository}
    if source == "file":
        arguments = {"weights": str(tmp_path / "msillm.ckpt")}
        torch.save(old_names(authors.state_dict()), arguments["weights"])
    model = MSILLM(quality=2, **arguments, **SIZES)
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
    torch.testing.assert_close(networks.prior(hyper)[1].shape, hyper.shape)
    assert torch.equal(networks.prior.biases[2], authors.hyper_bottleneck.biases[2])


@torch.no_grad()
def test_a_saved_codec_needs_the_repository_no_more(repository, tmp_path):
    codec = codec_of(MSILLM(quality=2, repository=repository, **SIZES))
    data = codec.compress(torch.rand(3, 50, 90))
    save(codec, tmp_path / "codec")
    shutil.rmtree(repository)
    loaded = ulcompress.load(tmp_path / "codec")
    assert "CC-BY-NC 4.0" in loaded.quantizer.model.origin
    torch.testing.assert_close(loaded.decompress(data), codec.decompress(data), atol=0.02, rtol=0)


def test_without_a_quality_the_weights_are_random(one_thread):
    model = MSILLM(**SIZES)
    assert model.origin is None
    assert not torch.equal(model.analysis().blocks[0][0].weight, model.analysis().blocks[0][0].weight)


def test_the_published_sizes_are_the_default():
    with torch.device("meta"):
        model = MSILLM()
        parts = [model.analysis(), model.synthesis(), model.hyperprior().synthesis]
    shapes = [tuple(part.state_dict()[key].shape) for part, key in zip(parts, KEYS, strict=True)]
    assert shapes == [(220, 960, 3, 3), (3, 60, 7, 7), (220, 320, 3, 3)]
    assert len(parts[1].resid_blocks) == 9


KEYS = ["blocks.5.weight", "blocks.4.weight", "branches.1.4.weight"]


@pytest.mark.parametrize("quality, reason", [(5, "must be one of others"), (3, "msillm_quality_3")])
def test_what_the_hub_cannot_give_is_said_in_one_line(repository, quality, reason):
    with pytest.raises(ValueError, match=f"cannot get msillm_quality_{quality} from .*") as error:
        MSILLM(quality=quality, repository=repository, **SIZES).analysis()
    assert reason in one_line(error)


def test_without_a_network_the_message_says_what_to_give(monkeypatch):
    def fail(*_, **options):
        assert options["source"] == "github" and options["trust_repo"] == "check"
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load", fail)
    with pytest.raises(ValueError, match="cannot get msillm_quality_1 from 'facebookresearch/NeuralC") as error:
        MSILLM(quality=1).synthesis()
    assert "no route to host; give the directory of a copy" in one_line(error)


def test_weights_of_other_sizes_are_refused(repository):
    with pytest.raises(ValueError, match="does not hold the encoder of such an MS-ILLM") as error:
        MSILLM(quality=2, repository=repository, **SIZES | {"channels": 7}).analysis()
    one_line(error)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"quality": 7}, "qualities 1 to 6, got 7"),
        ({"widths": [4, 5, 6]}, r"widths must be five, for a stride of 16, got \[4, 5, 6\]"),
        ({"weights": "file"}, "weights 'file' need the quality"),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MSILLM(**arguments)
