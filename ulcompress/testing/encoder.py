"""The contract of an encoder, as checks."""

from math import lcm

import torch
from torch import Tensor

from ulcompress.encoders.base import Encoder
from ulcompress.testing.requirements import (
    copy_of,
    randomize_zeros,
    rebuilt,
    require,
    require_close,
    require_gradients,
    require_same,
    trained_parameters,
    unchanged_state,
)

LATENT_CHANNELS, LATENT_STRIDE = 4, 8
"""Of the latent for an encoder that takes any."""


def check_encoder(encoder: Encoder) -> None:
    """Check that an encoder keeps its contract; the encoder itself is left as it is.

    Parameters of the copy that begin at zero get random weights, since they hide what lies behind them. Then:

    - features have `channels` and one position every `stride` pixels, and are finite;
    - they are deterministic, differ between images, and an image's do not depend on its batch;
    - gradients reach all parameters;
    - evaluation changes no state;
    - `config()` builds an equal encoder.

    Raises:
        AssertionError: It does not; the message says what it did and what the contract wants.
    """
    with copy_of(encoder) as part:
        randomize_zeros(part)
        for grid in ((1, 1), (2, 3)):
            _has_the_shape(part, *grid)
        _is_deterministic(part)
        _images_are_independent(part)
        _tells_images_apart(part)
        _evaluation_changes_nothing(part)
        _is_built_again(part, rebuilt(part, Encoder))
        _parameters_get_gradients(part)


def _inputs(encoder: Encoder, rows: int = 2, columns: int = 3) -> tuple[Tensor, Tensor]:
    """Draw two images and latents whose sides are multiples of both strides."""
    stride = encoder.latent_stride or LATENT_STRIDE
    side = lcm(encoder.stride, stride)
    height, width = rows * side, columns * side
    latent = torch.randn(2, encoder.latent_channels or LATENT_CHANNELS, height // stride, width // stride)
    return torch.rand(2, 3, height, width), latent


@torch.no_grad()
def _has_the_shape(encoder: Encoder, rows: int, columns: int) -> None:
    image, latent = _inputs(encoder, rows, columns)
    features = encoder(image, latent)
    expected = (2, encoder.channels, image.shape[-2] // encoder.stride, image.shape[-1] // encoder.stride)
    sentence = (
        f"makes features of {tuple(features.shape)} from {tuple(image.shape)}; its channels and stride say {expected}"
    )
    require(features.shape == expected, encoder, sentence)
    require(features.isfinite().all(), encoder, "gives features that are not finite for an image in [0, 1]")


@torch.no_grad()
def _is_deterministic(encoder: Encoder) -> None:
    inputs = _inputs(encoder)
    require_same(encoder(*inputs), encoder(*inputs), encoder, "gives one image two maps of features; draw nothing")


@torch.no_grad()
def _images_are_independent(encoder: Encoder) -> None:
    image, latent = _inputs(encoder)
    sentence = "encodes an image differently beside others in a batch"
    require_close(encoder(image[1:], latent[1:]), encoder(image, latent)[1:], encoder, sentence)


@torch.no_grad()
def _tells_images_apart(encoder: Encoder) -> None:
    one, other = encoder(*_inputs(encoder))
    require(not torch.equal(one, other), encoder, "gives the same features to two different images and latents")


def _parameters_get_gradients(encoder: Encoder) -> None:
    if trained := trained_parameters(encoder):
        encoder.train()(*_inputs(encoder)).square().sum().backward()
        require_gradients(trained, encoder)


def _evaluation_changes_nothing(encoder: Encoder) -> None:
    with unchanged_state(encoder):
        encoder(*_inputs(encoder))


@torch.no_grad()
def _is_built_again(encoder: Encoder, again: Encoder) -> None:
    inputs = _inputs(encoder)
    sentence = "differs from an encoder that was built from its config() and has its weights"
    require_same(again(*inputs), encoder(*inputs), encoder, sentence)
