"""Stable Diffusion's layout, at tiny size with random weights, through the path that the real weights take."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file

import ulcompress
from ulcompress.autoencoders import KLAutoencoder
from ulcompress.autoencoders.kl import TILE
from ulcompress.commands.main import run
from ulcompress.conditioning import ClipTextEncoder
from ulcompress.denoisers import UNet
from ulcompress.foundation.hub import PINNED
from ulcompress.foundation.stable_diffusion import DEFAULT, StableDiffusion
from ulcompress.records import Condition
from ulcompress.training import CodecModule

RECIPE = str(Path(__file__).parents[2] / "experiments/perco/sd.yaml")
SMALL = [
    *("--data.crop", "64", "--data.batch_size", "2", "--data.num_workers", "0", "--trainer.strategy", "auto"),
    *("--trainer.devices", "1", "--trainer.accelerator", "cpu", "--trainer.precision", "32-true"),
    *("--trainer.max_steps", "1", "--trainer.accumulate_grad_batches", "1", "--trainer.enable_progress_bar", "false"),
    *("--trainer.enable_model_summary", "false"),
]
ENTRIES = ["--model.codec.quantizer.codebook_size", "16"]


@pytest.fixture
def model(stable_diffusion, one_thread):
    torch.manual_seed(0)
    return StableDiffusion(name=stable_diffusion)


@pytest.fixture
def images(image_folder):
    return image_folder(4, 80, 70)


def test_the_recipe_trains_writes_and_reads_a_file(stable_diffusion, images, tmp_path, monkeypatch, capsys):
    """The whole of PerCo: weights of a directory, a step, a codec directory that needs that directory no more."""
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / "model"
    shutil.copytree(stable_diffusion, copy)
    monkeypatch.setenv("STABLE_DIFFUSION", str(copy))
    assert run(["fit", "-c", RECIPE, "--data.train", images, *SMALL, *ENTRIES]) == 0, capsys.readouterr().err
    shutil.rmtree(copy)
    assert run(["export", "runs/perco/sd/checkpoints/last.ckpt", "exported"]) == 0
    codec = ulcompress.load("exported")
    image = torch.rand(3, 64, 96)
    data = codec.compress(image, "a red cup")
    restored = codec.decompress(data, steps=2, guidance=3.0)
    assert restored.shape == image.shape
    assert not torch.equal(restored, codec.decompress(data, steps=2, guidance=1.0)), "the text is guided"
    trained = CodecModule.load_from_checkpoint("runs/perco/sd/checkpoints/last.ckpt", weights_only=True).codec.eval()
    torch.testing.assert_close(
        trained.decoder.denoiser.network.conv_in.weight,
        codec.decoder.denoiser.network.conv_in.weight,
        atol=1e-3,
        rtol=1e-2,
    )
    origins = (Path("exported") / "config.yaml").read_text().count("sha256:")
    assert origins == 3, "autoencoder, U-Net and text encoder say where their weights came from"


@torch.no_grad()
def test_the_autoencoder_is_stable_diffusions(model, stable_diffusion):
    theirs = AutoencoderKL.from_pretrained(stable_diffusion, subfolder="vae").eval()
    ours, image = KLAutoencoder(pretrained=model), torch.rand(1, 3, 32, 48)
    latent = theirs.encode(2 * image - 1).latent_dist.mode() * theirs.config.scaling_factor
    assert (ours.stride, ours.channels) == (8, 4)
    torch.testing.assert_close(ours.encode(image), latent)
    restored = theirs.decode(latent / theirs.config.scaling_factor).sample / 2 + 0.5
    torch.testing.assert_close(ours.decode(latent), restored)


@torch.no_grad()
@pytest.mark.parametrize("trained", ["all", "linear", "lora"])
def test_the_unet_is_stable_diffusions_until_it_is_trained(model, stable_diffusion, trained):
    theirs = UNet2DConditionModel.from_pretrained(stable_diffusion, subfolder="unet").eval()
    ours = UNet(maps={"spatial": 3}, pretrained=model, new_inputs="zero", trained=trained)
    noisy, times, text = torch.randn(2, 4, 8, 8), torch.tensor([3, 700]), torch.randn(2, 12, 16)
    condition = Condition(spatial=torch.randn(2, 3, 8, 8), text=text, text_mask=torch.ones(2, 12, dtype=torch.bool))
    expected = theirs(noisy, times, encoder_hidden_states=text).sample
    torch.testing.assert_close(ours(noisy, times, condition), expected, atol=1e-5, rtol=1e-4)
    random = UNet(maps={"spatial": 3}, pretrained=model, trained=trained)
    assert not torch.allclose(random(noisy, times, condition), expected, atol=1e-3), "random weights see the condition"
    kept = random.network.conv_in.weight[:, :4]
    assert torch.equal(kept, theirs.conv_in.weight)
    assert torch.equal(random.network.conv_in.bias, theirs.conv_in.bias)


def test_which_parameters_are_trained(model):
    def names(trained, **options):
        unet = UNet(maps={"spatial": 3}, pretrained=model, trained=trained, **options)
        return {name for name, parameter in unet.named_parameters() if parameter.requires_grad}, unet

    everything, unet = names("all")
    assert everything == {name for name, _ in unet.named_parameters()}
    linear, unet = names("linear")
    layers = {name for name, module in unet.named_modules() if isinstance(module, torch.nn.Linear)}
    assert linear == {n for n in everything if n.rpartition(".")[0] in layers or ".conv_in." in n}
    low_rank, unet = names("lora", lora_rank=2)
    assert {n for n in low_rank if "lora" not in n} == {n for n in low_rank if ".conv_in." in n}
    additions = [p for n, p in unet.named_parameters() if "lora_A" in n]
    assert additions and all(len(p) == 2 for p in additions)
    assert {n.split(".lora")[0].rpartition(".")[2] for n in low_rank if "lora" in n} >= {"to_q", "to_k", "to_v"}


@pytest.mark.parametrize("trained", ["all", "linear", "lora"])
def test_a_syntax_changes_nothing_until_it_is_trained(model, trained):
    options = {"maps": {"spatial": 3}, "pretrained": model, "new_inputs": "zero", "trained": trained}
    plain = UNet(**options, padding="replicate")
    unet = UNet(**options, syntax_channels=5, padding="replicate")
    noisy, times = torch.randn(2, 4, 8, 8), torch.tensor([3, 700])
    condition = Condition(spatial=torch.randn(2, 3, 8, 8), syntax=torch.randn(2, 5))
    torch.testing.assert_close(unet(noisy, times, condition), plain(noisy, times, condition))
    projection = unet.network.time_embedding.cond_proj.weight
    unet(noisy, times, condition).square().mean().backward()
    assert projection.grad.abs().max() > 0
    with torch.no_grad():
        projection.add_(1)
    rebuilt = UNet(**unet.arguments())
    rebuilt.load_state_dict(unet.state_dict())
    torch.testing.assert_close(rebuilt(noisy, times, condition), unet(noisy, times, condition))
    assert not torch.allclose(unet(noisy, times, condition), plain(noisy, times, condition), atol=1e-4)


def test_an_architecture_has_its_own_syntax(model):
    arguments = UNet(maps={"spatial": 3}, syntax_channels=5, pretrained=model).arguments()
    with pytest.raises(ValueError, match="takes a syntax of 5 channels, got syntax_channels=None"):
        UNet(**arguments | {"syntax_channels": None})


def test_a_step_changes_what_is_trained_and_nothing_else(model):
    unet = UNet(maps={"spatial": 3}, pretrained=model, trained="lora", lora_rank=2)
    before = {name: value.clone() for name, value in unet.named_parameters()}
    optimizer = torch.optim.Adam([p for p in unet.parameters() if p.requires_grad], lr=0.01)
    condition = Condition(spatial=torch.randn(1, 3, 8, 8), text=torch.randn(1, 12, 16))
    for _ in range(2):  # one half of an addition starts at zero, and lets no gradient through to the other
        unet(torch.randn(1, 4, 8, 8), torch.tensor([500]), condition).square().mean().backward()
        optimizer.step()
    changed = {name for name, value in unet.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {name for name, value in unet.named_parameters() if value.requires_grad}


@torch.no_grad()
def test_the_text_encoder_is_stable_diffusions(model, stable_diffusion):
    from transformers import CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(stable_diffusion, subfolder="tokenizer")
    theirs = CLIPTextModel.from_pretrained(stable_diffusion, subfolder="text_encoder").eval()
    ours = ClipTextEncoder(pretrained=model)
    texts = ["a red cup", "", "a very long caption that clip cannot read to its end at all"]
    ids = tokenizer(texts, padding="max_length", truncation=True, max_length=12, return_tensors="pt").input_ids
    embeddings, mask = ours(texts, [[], [], []])
    torch.testing.assert_close(embeddings, theirs(input_ids=ids).last_hidden_state)
    assert mask.all() and mask.shape == (3, 12)


@torch.no_grad()
@pytest.mark.parametrize("part", [KLAutoencoder, UNet, ClipTextEncoder])
def test_a_part_is_built_again_without_the_model(model, part):
    first = part(pretrained=model, **({"trained": "lora", "lora_rank": 2} if part is UNet else {}))
    arguments = first.arguments()
    json.dumps(arguments)
    assert arguments["pretrained"] is None
    again = part(**arguments)
    again.load_state_dict(first.state_dict())
    assert again.arguments() == arguments
    if part is ClipTextEncoder:
        assert torch.equal(again(["a cup"], [[]])[0], first(["a cup"], [[]])[0])


@pytest.mark.parametrize("part", [KLAutoencoder, UNet, ClipTextEncoder])
def test_a_model_and_an_architecture_exclude_each_other(model, part):
    architecture = part(pretrained=model).arguments()["architecture"]
    with pytest.raises(ValueError, match="both `pretrained` and `architecture`"):
        part(pretrained=model, architecture=architecture)


def test_precision_and_variant_can_be_chosen(stable_diffusion):
    half = KLAutoencoder(pretrained=StableDiffusion(name=stable_diffusion, variant="fp16", dtype="bfloat16"))
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    latent = half.encode(torch.rand(1, 3, 16, 16))
    assert latent.dtype == half.decode(latent).dtype == torch.float32
    assert "diffusion_pytorch_model.fp16.safetensors" in half.arguments()["architecture"]["origin"]


def test_revisions_are_pinned():
    assert StableDiffusion().revision == PINNED[DEFAULT]
    assert StableDiffusion(revision="main").revision == "main"
    assert StableDiffusion(name="somebody/model").revision is None


@pytest.mark.parametrize("file", ["vae/config.json", "vae/diffusion_pytorch_model.safetensors"])
def test_a_missing_file_is_named_in_one_line(stable_diffusion, tmp_path, file):
    copy = tmp_path / "model"
    shutil.copytree(stable_diffusion, copy)
    (copy / file).unlink()
    with pytest.raises(ValueError, match=f"has no {file}; give a local copy.*hf download {DEFAULT}") as error:
        KLAutoencoder(pretrained=StableDiffusion(name=str(copy)))
    assert "\n" not in str(error.value)


def test_a_damaged_file_is_named_in_one_line(stable_diffusion, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(stable_diffusion, copy)
    (copy / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="unet does not hold a UNet2DConditionModel") as error:
        UNet(pretrained=StableDiffusion(name=str(copy)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("part", "weights"),
    [
        (KLAutoencoder, "vae/diffusion_pytorch_model"),
        (UNet, "unet/diffusion_pytorch_model"),
        (ClipTextEncoder, "text_encoder/model"),
    ],
)
def test_weights_of_which_some_are_missing_are_refused(part, weights, stable_diffusion, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(stable_diffusion, copy)
    path = copy / f"{weights}.safetensors"
    state = load_file(path)
    lost = sorted(state)[-3:]
    save_file({name: value for name, value in state.items() if name not in lost}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"does not hold all of a .*: 3 of its tensors are missing"):
        part(pretrained=StableDiffusion(name=str(copy)))


def test_a_pretrained_autoencoder_has_tiles_of_the_documented_size(model):
    autoencoder = KLAutoencoder(pretrained=model)
    assert autoencoder.network.tile_sample_min_size == TILE
    assert autoencoder.network.tile_latent_min_size == TILE // autoencoder.stride


@pytest.mark.parametrize(
    "name, message",
    [
        (
            DEFAULT,
            f"cannot fetch unet/config.json .* of '{DEFAULT}': .*hf download {DEFAULT} --revision {PINNED[DEFAULT]}",
        ),
        ("no/such/directory", "cannot fetch unet/config.json .*give a local copy's directory"),
    ],
)
def test_no_network_and_no_copy_is_said_in_one_line(name, message, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=message) as error:
        UNet(pretrained=StableDiffusion(name=name))
    assert "\n" not in str(error.value)


def test_options_that_do_not_exist_are_refused(model):
    with pytest.raises(ValueError, match="trained must be one of all, linear, lora, got 'some'"):
        UNet(trained="some")
    with pytest.raises(ValueError, match="new_inputs must be one of random, zero, got 'ones'"):
        UNet(new_inputs="ones")
    with pytest.raises(ValueError, match="dtype must be float32, float16 or bfloat16, got 'int8'"):
        StableDiffusion(dtype="int8")
    with pytest.raises(ValueError, match="give `pretrained`"):
        ClipTextEncoder()


@torch.no_grad()
def test_the_older_names_of_an_autoencoders_attention_are_read(model, stable_diffusion, tmp_path):
    """Stable Diffusion's own files have them; a weight that is none of the network's is refused."""
    copy = tmp_path / "copy"
    shutil.copytree(stable_diffusion, copy)
    file = copy / "vae/diffusion_pytorch_model.safetensors"
    older = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    state = load_file(file)
    for new, old in older.items():
        state = {key.replace(new, old) if "mid_block" in key else key: value for key, value in state.items()}
    save_file(state, file, metadata={"format": "pt"})
    image = torch.rand(1, 3, 16, 16)
    ours = KLAutoencoder(pretrained=StableDiffusion(name=str(copy)))
    torch.testing.assert_close(ours.encode(image), KLAutoencoder(pretrained=model).encode(image))
    save_file(state | {"encoder.other": torch.ones(1)}, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"holds more than a AutoencoderKL, encoder\.other for instance"):
        KLAutoencoder(pretrained=StableDiffusion(name=str(copy)))
