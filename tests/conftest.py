"""What tests of several packages share."""

import json
import os
import shutil
import signal
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

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
from ulcompress.decoders import DiffusionDecoder
from ulcompress.denoisers import ConsistencyEncoder, GuidedUNet, UNet
from ulcompress.diffusion import BaseEstimate, BoundaryControl, DiscreteSchedule, Objective
from ulcompress.encoders import AnalysisTransform, HyperEncoder
from ulcompress.entropy import ContextModel
from ulcompress.learned.compressai import CompressAIModel
from ulcompress.learned.compressai import compressai as import_compressai
from ulcompress.losses.layers import IMAGE, Layers
from ulcompress.quantizers import HyperpriorQuantizer, ResidualQuantizer, VectorQuantizer

CAPTIONS = ["a red cup on a table", "a red car in a street", "a cat on a red chair", "two cups on a chair"]


@pytest.fixture(scope="session", autouse=True)
def signals_of_a_terminal():
    """Let signals end this process and those that it starts, also where `nohup` or a background shell ignores them."""
    defaults = {
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
        signal.SIGINT: signal.default_int_handler,
    }
    before = {number: signal.signal(number, handler) for number, handler in defaults.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium: that of Playwright, or one on the path."""
    sync_api = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    with sync_api.sync_playwright() as playwright:
        if found is None and not os.path.exists(playwright.chromium.executable_path):
            pytest.skip("no Chromium: run `playwright install chromium`, or put one on the path")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def namespace(monkeypatch):
    """The names of a fresh module, in which code can run whose classes are found by their path."""
    module = types.ModuleType("somewhere")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return vars(module)


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """W&B as for somebody who never logged in; its files are in the test's folder."""
    import wandb

    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_RUN_ID", "WANDB_SWEEP_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    wandb.teardown()  # it reads its environment once
    yield
    wandb.teardown()


@pytest.fixture
def one_thread():
    """Tiny networks lose more than they gain by a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def compressai():
    """The package CompressAI; where it does not exist, the test is skipped."""
    pytest.importorskip("compressai", reason="compressai does not exist for this Python")
    return import_compressai()


class TwoMaps(torch.nn.Module):
    """Feature maps of two sizes."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(3, 5, 3, stride=2), torch.nn.Conv2d(5, 7, 3, stride=2)

    def forward(self, images):
        first = self.first(images).relu()
        return [first, self.second(first)]


@pytest.fixture
def two_maps():
    """A network with random weights, such as distances stand on; the same in every test."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TwoMaps().eval().requires_grad_(False)


@pytest.fixture
def save_exported(one_thread):
    """Return a function that exports a network for images of any number and size, and writes the file."""

    def save(network, path, *, any_size=True, any_count=True):
        free = [*([0] if any_count else []), *([2, 3] if any_size else [])]
        shapes = (dict.fromkeys(free, torch.export.Dim.DYNAMIC),)
        torch.export.save(torch.export.export(network, (torch.rand(2, 3, 128, 144),), dynamic_shapes=shapes), path)
        return str(path)

    return save


@pytest.fixture
def save_layers(one_thread):
    """Return a function that writes a `TwoMaps` as data, and returns its file."""

    def save(network, path):
        layers = Layers()
        first = layers.add("relu", layers.convolve(IMAGE, network.first))
        layers.save(path, [first, layers.convolve(first, network.second)])
        return str(path)

    return save


@pytest.fixture
def image_folder(tmp_path):
    """Return a function that writes a folder of random images, each with two captions, and returns its path."""

    def write(count, width, height):
        folder = tmp_path / "images"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for index in range(count):
            Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{index}.png")
            (folder / f"{index}.txt").write_text(f"a red cup {index}\na blue cup\n")
        return str(folder)

    return write


@pytest.fixture
def tiny_codec(one_thread) -> Codec:
    """A complete codec with random weights, spatial and text condition, stride 16; the same in every test."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text = TextPrompt(
            coder=TextCoder(vocabulary=BytePairs(vocabulary_size=300), max_tokens=8),
            encoder=TokenTransformer(vocabulary_size=300, max_tokens=8, channels=16, layers=1, heads=2),
        )
        codec = Codec(
            autoencoder=KLAutoencoder(widths=(8, 8)),
            encoder=HyperEncoder(stride=16, width=8, channels=8),
            quantizer=VectorQuantizer(codebook_size=16, channels=8, dimension=4),
            conditioning={"text": text, "spatial": SpatialFeatures()},
            decoder=DiffusionDecoder(
                denoiser=UNet(maps={"spatial": 8}, text_channels=16, widths=(32, 32), head_channels=8), steps=2
            ),
        )
    codec.prepare(CAPTIONS)
    return codec.eval()


@pytest.fixture
def tiny_captioned_codec(tiny_codec) -> Codec:
    """The tiny codec with two stages whose probabilities depend on the caption, random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        entropy = ContextModel(width=8, words=64)
        parts = {"channels": 8, "dimension": 4, "entropy": entropy, "rate_weight": 0.01}
        quantizer = ResidualQuantizer(codebook_sizes=[16, 8], blocks=[2, 1], **parts)
        for weight in (*(head.weight for head in entropy.heads), *entropy.captions.parameters()):
            torch.nn.init.normal_(weight)
    shared = {"autoencoder": tiny_codec.autoencoder, "encoder": tiny_codec.encoder, "decoder": tiny_codec.decoder}
    return Codec(quantizer=quantizer, conditioning=tiny_codec.conditioners, **shared).eval()


@pytest.fixture
def tiny_staged_codec(one_thread) -> Codec:
    """A codec of two rates with random weights and spatial condition alone, stride 16."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Codec(
            autoencoder=KLAutoencoder(widths=(8, 8)),
            encoder=HyperEncoder(stride=16, width=8, channels=8),
            quantizer=ResidualQuantizer(codebook_sizes=[16, 8], blocks=[2, 1], channels=8, dimension=4),
            conditioning={"spatial": SpatialFeatures()},
            decoder=DiffusionDecoder(denoiser=UNet(maps={"spatial": 8}, widths=(32, 32), head_channels=8), steps=1),
        ).eval()


@pytest.fixture
def tiny_guided_codec(one_thread) -> Codec:
    """A codec of CGDM's shape with random weights, also where layers begin at zero; stride 16.

    Its base is grey, its latent has symbols other than zero.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, sizes = CompressAIModel(sizes=(8, 8)), {"widths": (8, 8), "patch_size": 4, "blocks": 1}
        codec = Codec(
            autoencoder=PixelSpace(),
            encoder=AnalysisTransform(model=model),
            quantizer=HyperpriorQuantizer(model=model),
            conditioning={
                "base": SynthesisTransform(model=model),
                "syntax": NeuralSyntax(generator=SyntaxGenerator(dimension=6, width=4, stages=3)),
            },
            decoder=DiffusionDecoder(
                denoiser=GuidedUNet(**sizes, syntax_channels=6, consistency=ConsistencyEncoder(**sizes)),
                objective=Objective(
                    schedule=DiscreteSchedule(beta_schedule="squaredcos_cap_v2"), prediction="sample", min_snr=5.0
                ),
                estimate=BaseEstimate(),
                boundary=BoundaryControl(patch=128, overlap=32, seed=0),
                steps=2,
            ),
        )
        for parameter in codec.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    with torch.no_grad():
        codec.encoder.network[-1].weight.mul_(40)
        codec.quantizer.synthesis[-1].bias[:8].add_(2)
        codec.conditioning["base"].network[-1].bias.add_(0.5)
    return codec.eval()


@pytest.fixture
def squeezenet(tmp_path):
    """A file with random weights of SqueezeNet 1.1."""
    import torchvision
    from safetensors.torch import save_file

    path = tmp_path / "squeezenet.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(torchvision.models.squeezenet1_1().state_dict(), path)
    return str(path)


@pytest.fixture(scope="session")
def stable_diffusion(tmp_path_factory) -> str:
    """A directory with a complete Stable Diffusion of tiny size and random weights, as diffusers writes it."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    directory = tmp_path_factory.mktemp("stable-diffusion")
    letters = [chr(code) for code in range(97, 123)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "cu", "cup</w>", "<|startoftext|>", "<|endoftext|>"]
    (directory / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (directory / "merges.txt").write_text("#version: 0.2\nc u\ncu p</w>\n")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        text = CLIPTextConfig(
            vocab_size=len(tokens),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=12,
            bos_token_id=len(tokens) - 2,
            eos_token_id=len(tokens) - 1,
        )
        pipeline = diffusers.StableDiffusionPipeline(
            vae=diffusers.AutoencoderKL(
                block_out_channels=(8, 8, 8, 8),
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                latent_channels=4,
                norm_num_groups=4,
                sample_size=64,
            ),
            text_encoder=CLIPTextModel(text),
            tokenizer=CLIPTokenizer(
                str(directory / "vocab.json"),
                str(directory / "merges.txt"),
                model_max_length=12,
                pad_token="<|endoftext|>",
            ),
            unet=diffusers.UNet2DConditionModel(
                sample_size=8,
                block_out_channels=(8, 16),
                layers_per_block=1,
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
                cross_attention_dim=16,
                attention_head_dim=4,
                norm_num_groups=4,
                use_linear_projection=True,
            ),
            scheduler=diffusers.DDIMScheduler(prediction_type="v_prediction", steps_offset=1, clip_sample=False),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.save_pretrained(directory)
        pipeline.save_pretrained(directory, variant="fp16")
    return str(directory)
