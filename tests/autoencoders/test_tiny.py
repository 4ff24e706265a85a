import json
import shutil

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file

from ulcompress.autoencoders import TinyAutoencoder, tiny
from ulcompress.foundation.hub import PINNED
from ulcompress.foundation.network import PretrainedNetwork

SIZES = {"width": 8, "blocks": (1, 2, 1)}


def diffusers_network(width, blocks):
    widths = (width,) * len(blocks)
    return AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=blocks,
        num_decoder_blocks=blocks[::-1],
    )


@pytest.fixture
def saved(tmp_path, one_thread):
    """Return the directory of a network as diffusers saves it."""
    torch.manual_seed(0)
    diffusers_network(**SIZES).save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def pretrained(directory):
    return TinyAutoencoder(pretrained=PretrainedNetwork(name=str(directory)))


@torch.no_grad()
def test_it_is_diffusers_network(saved):
    theirs, ours = AutoencoderTiny.from_pretrained(saved).eval(), pretrained(saved)
    image = torch.rand(2, 3, 16, 24)
    assert (ours.stride, ours.channels) == (4, 4)
    latent = theirs.encode(2 * image - 1).latents
    torch.testing.assert_close(ours.encode(image), latent)
    torch.testing.assert_close(ours.decode(latent), theirs.decode(latent).sample / 2 + 0.5)


@torch.no_grad()
@pytest.mark.parametrize("sizes", [SIZES, {"width": 8, "blocks": (1, 1, 2, 3)}])
def test_our_network_is_diffusers_network_too(one_thread, sizes):
    theirs, ours = diffusers_network(**sizes).eval(), TinyAutoencoder(**sizes)
    ours.network.load_state_dict(theirs.state_dict())
    image, latent = torch.rand(2, 3, 16, 24), 3 * torch.randn(2, 4, 3, 5)
    torch.testing.assert_close(ours.encode(image), theirs.encode(2 * image - 1).latents)
    torch.testing.assert_close(ours.decode(latent), theirs.decode(latent).sample / 2 + 0.5)


@torch.no_grad()
def test_it_is_built_again_without_the_directory(saved):
    first, image = pretrained(saved), torch.rand(1, 3, 8, 8)
    shutil.rmtree(saved)
    arguments = first.arguments()
    assert arguments["pretrained"] is None and "sha256:" in arguments["architecture"]["origin"]
    again = TinyAutoencoder(**arguments)
    again.load_state_dict(first.state_dict())
    assert torch.equal(again.encode(image), first.encode(image)) and again.arguments() == arguments


@torch.no_grad()
def test_a_large_image_is_coded_in_tiles_like_a_whole(one_thread, monkeypatch):
    torch.manual_seed(0)
    image = torch.rand(1, 3, 16, 400)
    whole = TinyAutoencoder(**SIZES).eval()
    monkeypatch.setattr(tiny, "TILE", 64)
    tiled = TinyAutoencoder(**SIZES).eval()
    tiled.load_state_dict(whole.state_dict())
    latent = whole.encode(image)
    torch.testing.assert_close(tiled.encode(image), latent, atol=1e-2, rtol=0)
    torch.testing.assert_close(tiled.decode(latent), whole.decode(latent), atol=1e-2, rtol=0)


def test_weights_that_are_missing_or_not_all_there_are_named(saved):
    weights = saved / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    save_file({name: state[name] for name in sorted(state)[3:]}, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="does not hold all of a AutoencoderTiny: 3 of its tensors are missing"):
        pretrained(saved)
    weights.unlink()
    with pytest.raises(ValueError, match=r"has no diffusion_pytorch_model\.safetensors; give a local copy's directory"):
        pretrained(saved)


def test_an_entry_too_many_in_a_configuration_is_no_warning(saved, caplog):
    file = saved / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "block_out_channels": [8, 8, 8]}))
    pretrained(saved)
    assert not caplog.records
    AutoencoderTiny.from_pretrained(saved)
    assert "block_out_channels" in caplog.text, "diffusers warns by itself, and goes on to do so"


def test_a_network_and_an_architecture_exclude_each_other(saved):
    with pytest.raises(ValueError, match="both `pretrained` and `architecture`"):
        TinyAutoencoder(pretrained=PretrainedNetwork(name=str(saved)), architecture=pretrained(saved).arguments())


def test_no_network_and_no_copy_is_said_in_one_line(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert "madebyollin/taesd" not in PINNED
    with pytest.raises(
        ValueError, match=r"cannot fetch config\.json .*`hf download madebyollin/taesd --local-dir"
    ) as error:
        pretrained("madebyollin/taesd")
    assert "\n" not in str(error.value)
