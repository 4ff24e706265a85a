"""PerCo (SD), the open implementation of PerCo on Stable Diffusion 2.1, from its published weights."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch

from ulcompress.autoencoders import KLAutoencoder
from ulcompress.codec import Codec
from ulcompress.conditioning import ClipTextEncoder, SpatialFeatures, TextPrompt
from ulcompress.decoders import DiffusionDecoder
from ulcompress.denoisers import UNet
from ulcompress.diffusion import DDIM, BoundaryControl, DiscreteSchedule, Objective
from ulcompress.encoders import HyperEncoder
from ulcompress.entropy import UniformEntropy
from ulcompress.foundation.published_file import sha256_of
from ulcompress.foundation.stable_diffusion import StableDiffusion
from ulcompress.learned.catalogue import PERCO_GRIDS, PublishedCodec
from ulcompress.learned.state import fill, read_state
from ulcompress.pretrained import load
from ulcompress.quantizers import VectorQuantizer

SIDE = 512
"""Side of the images for which the published grids are stated, in pixels."""
GUIDANCE = 3.0
WEIGHTS = "diffusion_pytorch_model.safetensors"
UNUSED = (
    *(f"quantizer._codebook.{name}" for name in ("initted", "cluster_size", "embed_avg")),
    *("conv_in.weight", "conv_in.bias"),
)
"""Weights in the files that the published program does not use when it codes: statistics of the codebook's training,
and the first convolution of Stable Diffusion, in whose place a wider one stands."""


def perco_sd(published: PublishedCodec, folder: Path) -> Codec:
    """Build PerCo (SD) from a folder in the layout in which its pipeline was saved.

    The folders `hyper_enc` and `unet` are PerCo's. `vae`, `text_encoder` and `tokenizer` are Stable Diffusion's, which
    is taken from the model hub where they are not there. Captions are coded by the text coder of `mini`, not by zlib.

    Args:
        published: Which of the rates.
        folder: The folder.

    Raises:
        ValueError: The files are missing, or hold something else; the message names the first weight that does not fit.
    """
    model = StableDiffusion(name=str(folder)) if (folder / "vae").is_dir() else StableDiffusion()
    autoencoder = KLAutoencoder(pretrained=model)
    encoder, quantizer = _encoder(published, folder / "hyper_enc", autoencoder.stride)
    low = published.bpp < 0.05
    return Codec(
        autoencoder=autoencoder,
        encoder=encoder,
        quantizer=quantizer,
        conditioning={
            "text": TextPrompt(coder=_text_coder(), encoder=ClipTextEncoder(pretrained=model)),
            "spatial": SpatialFeatures(),
        },
        decoder=DiffusionDecoder(
            denoiser=_denoiser(folder / "unet", encoder.channels),
            objective=Objective(schedule=DiscreteSchedule(zero_terminal_snr=False)),
            sampler=DDIM(spacing="leading"),
            steps=20 if low else 5,
            guidance=GUIDANCE,
            boundary=BoundaryControl(patch=96, overlap=16),
        ),
    )


def _encoder(published: PublishedCodec, folder: Path, stride: int) -> tuple[HyperEncoder, VectorQuantizer]:
    """Return hyper-encoder and codebook, which are published as one network."""
    config = _config(folder, "in_channels", "N", "M", "codebook_dim", "cfg_ss", "cfg_cs")
    grid = (config["cfg_ss"], config["cfg_cs"])
    wanted = PERCO_GRIDS[f"{published.bpp:.4f}"]
    if grid != wanted:
        raise ValueError(
            f"{folder} is not {published.name}: it has a grid of {grid[0]} and {grid[1]} entries, not {wanted[0]} and "
            f"{wanted[1]}"
        )
    encoder = HyperEncoder(
        stride=SIDE // grid[0],
        channels=config["M"],
        width=config["N"],
        latent_channels=config["in_channels"],
        latent_stride=stride,
    )
    quantizer = VectorQuantizer(
        codebook_size=grid[1], channels=config["M"], dimension=config["codebook_dim"], entropy=UniformEntropy()
    )
    source = str(folder / WEIGHTS)
    state = {key: value for key, value in read_state(source).items() if key not in UNUSED}
    entries = {key: value for key, value in state.items() if key.startswith("quantizer.")}
    fill(encoder, {key: state[key] for key in state if key not in entries}, name=_backbone_name, source=source)
    # One codebook of possibly several, each entry of unit length; the averages of a training start anew from them.
    entries |= {
        key: value[0] for key, value in entries.items() if key == "quantizer._codebook.embed" and len(value) == 1
    }
    entries |= {f"quantizer.{name}": getattr(quantizer, name) for name in ("usage", "mean")}
    fill(quantizer, entries | {"quantizer.filled": torch.tensor(True)}, name=_codebook_name, source=source)
    return encoder, quantizer


def _denoiser(folder: Path, spatial: int) -> UNet:
    """Return the U-Net, whose first convolution takes the features too, although its configuration does not say so."""
    config = {key: value for key, value in _config(folder, "in_channels").items() if not key.startswith("_")}
    file = folder / WEIGHTS
    state = {key: value for key, value in read_state(str(file)).items() if key not in UNUSED}
    wide = {
        "in_channels": config["in_channels"] + spatial,
        "origin": f"PerCo (SD) {file.name} sha256:{sha256_of(file)}",
    }
    denoiser = UNet(maps={"spatial": spatial}, architecture=config | wide)
    fill(denoiser.network, state, name=_unet_name, source=str(file))
    return denoiser


def _text_coder() -> Any:
    text: Any = load("mini", encoder_only=True).conditioners["text"]
    return text.coder


def _config(folder: Path, *keys: str) -> dict[str, Any]:
    """Read the configuration of a network; ValueError where it is missing or lacks one of the keys."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in keys if not isinstance(config[key], int)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"cannot read {path}: {error}; give the folder as it was published") from error
    if missing:
        raise ValueError(f"{path} states no number for {missing[0]}; give the folder as it was published")
    return config


def _backbone_name(key: str) -> str:
    """Return the published name of a weight of the hyper-encoder."""
    for pattern, published in (
        (r"^layers\.", "backbone."),
        (r"\.branch\.(\d)\.0\.layers\.", r".conv_a.\1.conv."),
        (r"\.mask\.(\d)\.0\.layers\.", r".conv_b.\1.conv."),
        (r"\.mask\.", ".conv_b."),
    ):
        key = re.sub(pattern, published, key)
    return key


def _codebook_name(key: str) -> str:
    return f"quantizer.{'_codebook.embed' if key == 'sums' else key}"


def _unet_name(key: str) -> str:
    return re.sub(r"^conv_in\.", "conv_in_extended.", key)
