"""PerCo (SD)'s layout, written anew from its table of names, at tiny size with random weights."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

import ulcompress
from ulcompress.commands.main import run
from ulcompress.conditioning import ClipTextEncoder
from ulcompress.denoisers import UNet
from ulcompress.encoders import HyperEncoder
from ulcompress.foundation.stable_diffusion import StableDiffusion
from ulcompress.learned.catalogue import PUBLISHED
from ulcompress.learned.perco_sd import _backbone_name, _unet_name, perco_sd

NAME = "perco-sd-0.0019"
WIDTH, CHANNELS, DIMENSION, ENTRIES = 8, 12, 4, 256
WEIGHTS = "diffusion_pytorch_model.safetensors"


def trunk(channels, half):
    return nn.Sequential(
        *(nn.Conv2d(channels, half, 1), nn.ReLU(), nn.Conv2d(half, half, 3, padding=1), nn.ReLU()),
        nn.Conv2d(half, channels, 1),
    )


class Bottleneck(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.layers = trunk(channels, channels // 2)

    def forward(self, x):
        return x + self.layers(x)


class Unit(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = trunk(channels, channels // 2)

    def forward(self, x):
        return F.relu(x + self.conv(x))


class Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv_a = nn.Sequential(*(Unit(channels) for _ in range(3)))
        self.conv_b = nn.Sequential(*(Unit(channels) for _ in range(3)), nn.Conv2d(channels, channels, 1))

    def forward(self, x):
        return x + self.conv_a(x) * self.conv_b(x).sigmoid()


class HyperNetwork(nn.Module):
    """The one network of hyper-encoder and codebook, at a grid of 8: three convolutions halve."""

    def __init__(self):
        super().__init__()
        halve = {"kernel_size": 5, "stride": 2, "padding": 2}
        self.backbone = nn.Sequential(
            *(nn.Conv2d(4, WIDTH, **halve), *(Bottleneck(WIDTH) for _ in range(3))),
            *(nn.Conv2d(WIDTH, WIDTH, **halve), *(Bottleneck(WIDTH) for _ in range(3)), Attention(WIDTH)),
            *(nn.Conv2d(WIDTH, WIDTH, **halve), *(Bottleneck(WIDTH) for _ in range(3))),
            *(nn.Conv2d(WIDTH, CHANNELS, 1), Attention(CHANNELS)),
        )
        self.quantizer = nn.Module()
        self.quantizer.project_in = nn.Linear(CHANNELS, DIMENSION)
        self.quantizer.project_out = nn.Linear(DIMENSION, CHANNELS)
        self.quantizer._codebook = nn.Module()
        entries = F.normalize(torch.randn(1, ENTRIES, DIMENSION), dim=-1)
        for name, value in {
            "initted": torch.ones(1),
            "cluster_size": torch.rand(1, ENTRIES),
            "embed_avg": torch.rand(1, ENTRIES, DIMENSION),
            "embed": entries,
        }.items():
            self.quantizer._codebook.register_buffer(name, value)

    def forward(self, latent):
        """Return features, indices and quantised features."""
        features = self.backbone(latent)
        entries = self.quantizer._codebook.embed[0]
        unit = F.normalize(self.quantizer.project_in(features.movedim(1, -1)), dim=-1)
        indices = (unit @ entries.T).argmax(-1)
        return features, indices, self.quantizer.project_out(entries[indices]).movedim(-1, 1)


@pytest.fixture(scope="module")
def published(stable_diffusion, tmp_path_factory):
    """A folder in the layout of the published ones, and the network of its `hyper_enc`."""
    folder = tmp_path_factory.mktemp("perco") / "published"
    shutil.copytree(stable_diffusion, folder)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = HyperNetwork().eval()
        wide = {"weight": torch.randn(8, 4 + CHANNELS, 3, 3) / 10, "bias": torch.randn(8)}
    (folder / "hyper_enc").mkdir()
    sizes = {"in_channels": 4, "N": WIDTH, "M": CHANNELS, "codebook_dim": DIMENSION, "cfg_ss": 8, "cfg_cs": ENTRIES}
    (folder / "hyper_enc/config.json").write_text(json.dumps({"_class_name": "HyperEncoder", **sizes}))
    save_file(network.state_dict(), folder / "hyper_enc" / WEIGHTS)
    unet = load_file(folder / "unet" / WEIGHTS)
    save_file(unet | {f"conv_in_extended.{name}": value for name, value in wide.items()}, folder / "unet" / WEIGHTS)
    return folder, network


@pytest.fixture
def folder(published, tmp_path):
    """A copy of the folder that a test may change."""
    shutil.copytree(published[0], tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def codec(published, one_thread):
    return perco_sd(PUBLISHED[NAME], published[0]).eval()


@torch.no_grad()
def test_features_and_indices_are_those_of_the_published_network(codec, published):
    latent = torch.randn(1, 4, 32, 24)
    features, indices, quantized = published[1](latent)
    ours = codec.encoder(torch.zeros(1, 3, 256, 192), latent)
    torch.testing.assert_close(ours, features)
    result = codec.quantizer(ours)
    assert torch.equal(result.symbols, indices) and len(indices.unique()) > 1
    torch.testing.assert_close(codec.quantizer.dequantize(result.symbols), quantized)


@torch.no_grad()
def test_the_wider_convolution_is_the_first_of_the_network(codec, published):
    state = load_file(published[0] / "unet" / WEIGHTS)
    first = codec.decoder.denoiser.network.conv_in
    assert torch.equal(first.weight, state["conv_in_extended.weight"])
    assert torch.equal(first.bias, state["conv_in_extended.bias"])
    assert torch.equal(codec.decoder.denoiser.network.conv_out.weight, state["conv_out.weight"])


def test_the_process_is_the_published_one(codec):
    decoder = codec.decoder
    assert decoder.steps == 20 and decoder.guidance == 3.0 and decoder.sampler.spacing == "leading"
    assert not decoder.objective.schedule.pure_noise
    caption = "a river runs through a rocky forest with trees"
    assert codec.conditioning["text"].coder.text(codec.conditioning["text"].coder.tokens(caption)) == caption


def test_the_import_codes_an_image_and_needs_the_folder_no_more(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ULCOMPRESS_CACHE", str(tmp_path / "cache"))
    assert run(["import", NAME, str(folder), str(tmp_path / "out")]) == 0, capsys.readouterr().err
    shutil.rmtree(folder)
    codec = ulcompress.load(NAME)
    image = torch.rand(3, 64, 100, generator=torch.Generator().manual_seed(0))
    data = codec.compress(image, "a red cup")
    assert codec.decompress(data, steps=2).shape == image.shape
    assert codec.stream_bits(data)["spatial"] == pytest.approx(2 * 8, abs=0.01)
    assert "hyper_enc/diffusion_pytorch_model.safetensors | `" in (tmp_path / "out/README.md").read_text()


def change(file, edit):
    state = load_file(file)
    edit(state)
    save_file(state, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        (
            "unet",
            lambda s: s.pop("conv_in_extended.weight"),
            r"unet.* does not fit: conv_in_extended\.weight is missing",
        ),
        ("unet", lambda s: s.update(other=torch.ones(1)), "unet.* does not fit: other has no place"),
        ("hyper_enc", lambda s: s.pop("backbone.0.weight"), r"fit: backbone\.0\.weight is missing"),
        (
            "hyper_enc",
            lambda s: s.pop("backbone.8.conv_a.1.conv.2.bias"),
            r"backbone\.8\.conv_a\.1\.conv\.2\.bias is miss",
        ),
        ("hyper_enc", lambda s: s.pop("quantizer._codebook.embed"), r"quantizer\._codebook\.embed is missing"),
        (
            "hyper_enc",
            lambda s: s.update({"quantizer._codebook.embed": torch.ones(1, 16, DIMENSION)}),
            r"quantizer\._codebook\.embed has the shape \(16, 4\), not \(256, 4\)",
        ),
    ],
)
def test_the_first_weight_that_does_not_fit_is_named(file, edit, message, folder):
    change(folder / file / WEIGHTS, edit)
    with pytest.raises(ValueError, match=message):
        perco_sd(PUBLISHED[NAME], folder)


def test_another_rate_is_refused(folder):
    with pytest.raises(
        ValueError, match=r"hyper_enc is not perco-sd-0\.1250: it has a grid of 8 and 256 entries, not 64"
    ):
        perco_sd(PUBLISHED["perco-sd-0.1250"], folder)


def test_a_folder_without_a_configuration_is_refused(folder):
    (folder / "hyper_enc/config.json").unlink()
    with pytest.raises(ValueError, match=r"cannot read .*config\.json: .*; give the folder as it was published"):
        perco_sd(PUBLISHED[NAME], folder)


def test_what_cannot_be_fetched_by_address_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("ULCOMPRESS_CACHE", str(tmp_path))
    with pytest.raises(
        ValueError, match=rf"get it from {PUBLISHED[NAME].address}, and then `ulcompress import {NAME} F"
    ):
        ulcompress.load(NAME)


@pytest.mark.parametrize(("stride", "kernels"), [(8, [1, 1, 1]), (16, [1, 1, 5]), (64, [5, 5, 5])])
def test_names_and_shapes_at_full_size_are_those_of_the_table(stride, kernels):
    with torch.device("meta"):
        shapes = {key: tuple(v.shape) for key, v in HyperEncoder(stride=stride).state_dict().items()}
    shapes = {_backbone_name(key): shape for key, shape in shapes.items()}
    assert len(shapes) == 138
    first, second, third = kernels
    expected = {
        "backbone.0.weight": (192, 4, first, first),
        "backbone.4.weight": (192, 192, second, second),
        "backbone.9.weight": (192, 192, third, third),
        "backbone.13.weight": (320, 192, 1, 1),
        "backbone.12.layers.2.weight": (96, 96, 3, 3),
        "backbone.14.conv_a.2.conv.4.weight": (320, 160, 1, 1),
        "backbone.8.conv_b.3.weight": (192, 192, 1, 1),
    }
    assert {key: shapes[key] for key in expected} == expected


def test_the_folder_is_not_taken_for_stable_diffusion(published):
    with pytest.raises(
        ValueError, match=r"more than a UNet2DConditionModel, conv_in_extended\.bias .*`ulcompress import`"
    ):
        UNet(maps={"spatial": 3}, pretrained=StableDiffusion(name=str(published[0])))


def test_a_tokenizer_of_older_files_needs_its_map_of_special_tokens(folder):
    """Stable Diffusion 2's configuration names another padding than its map, which is right."""
    tokenizer = folder / "tokenizer"
    (tokenizer / "tokenizer.json").unlink()
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(folder / name, tokenizer)
    model = StableDiffusion(name=str(folder))
    with pytest.raises(ValueError, match=r"has no tokenizer/special_tokens_map\.json"):
        ClipTextEncoder(pretrained=model)
    (tokenizer / "special_tokens_map.json").write_text(json.dumps({"pad_token": "b</w>"}))
    encoder = ClipTextEncoder(pretrained=model)
    stated = json.loads(encoder.tokenizer_json.numpy().tobytes())
    assert stated["padding"]["pad_token"] == "b</w>"


def test_the_published_unet_has_688_weights_with_the_two_that_are_not_used():
    """The sizes of Stable Diffusion 2.1, on the meta device."""
    stock = {
        **{"in_channels": 4 + 320, "block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 1024},
        **{"attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True},
    }
    with torch.device("meta"):
        network = UNet(maps={"spatial": 320}, architecture=stock).network
    shapes = {_unet_name(key): tuple(value.shape) for key, value in network.state_dict().items()}
    assert len(shapes) + 2 == 688
    assert shapes["conv_in_extended.weight"] == (320, 324, 3, 3) and "conv_in.weight" not in shapes
    assert sum(parameter.numel() for parameter in network.parameters()) == 866_844_164 - (320 * 4 * 9 + 320)
