"""The contract of an autoencoder, as checks."""

import torch
from torch import Tensor

from ulcompress.autoencoders.base import Autoencoder
from ulcompress.testing.requirements import (
    copy_of,
    rebuilt,
    require,
    require_close,
    require_gradients,
    require_same,
    unchanged_state,
)

GRIDS = ((1, 1), (1, 5), (4, 3), (67, 1))


def check_autoencoder(autoencoder: Autoencoder) -> None:
    """Check that an autoencoder keeps its contract; the autoencoder itself is left as it is.

    - latents have `channels` and one position every `stride` pixels, images come back in their size, all finite;
    - encoding and decoding are deterministic, and an image or a latent does not depend on its batch;
    - different images have different latents, different latents different images;
    - a gradient reaches the image through both;
    - evaluation changes no state;
    - `config()` builds an equal autoencoder.

    Raises:
        AssertionError: It does not; the message says what it did and what the contract wants.
    """
    with copy_of(autoencoder) as part:
        for grid in GRIDS:
            _has_the_shapes(part, *grid)
        _is_deterministic(part)
        _images_are_independent(part)
        _tells_images_apart(part)
        _images_get_gradients(part)
        _evaluation_changes_nothing(part)
        _is_built_again(part, rebuilt(part, Autoencoder))


def _images(autoencoder: Autoencoder, rows: int = 3, columns: int = 2) -> Tensor:
    return torch.rand(2, 3, rows * autoencoder.stride, columns * autoencoder.stride)


@torch.no_grad()
def _has_the_shapes(autoencoder: Autoencoder, rows: int, columns: int) -> None:
    image = _images(autoencoder, rows, columns)
    latent = autoencoder.encode(image)
    expected, found = (2, autoencoder.channels, rows, columns), tuple(latent.shape)
    sentence = f"makes a latent of {found} from {tuple(image.shape)}; its channels and stride say {expected}"
    require(found == expected, autoencoder, sentence)
    restored = autoencoder.decode(latent)
    sentence = f"decodes {found} to {tuple(restored.shape)}; the image was {tuple(image.shape)}"
    require(restored.shape == image.shape, autoencoder, sentence)
    finite = latent.isfinite().all() and restored.isfinite().all()
    require(finite, autoencoder, "gives numbers that are not finite for an image in [0, 1]")


@torch.no_grad()
def _is_deterministic(autoencoder: Autoencoder) -> None:
    image = _images(autoencoder)
    latent = autoencoder.encode(image)
    require_same(autoencoder.encode(image), latent, autoencoder, "encodes one image to two latents; draw nothing")
    restored = autoencoder.decode(latent)
    require_same(autoencoder.decode(latent), restored, autoencoder, "decodes one latent to two images; draw nothing")


@torch.no_grad()
def _images_are_independent(autoencoder: Autoencoder) -> None:
    image = _images(autoencoder)
    latent = autoencoder.encode(image)
    sentence = "encodes an image differently beside others in a batch"
    require_close(autoencoder.encode(image[1:]), latent[1:], autoencoder, sentence)
    restored, alone = autoencoder.decode(latent)[1:], autoencoder.decode(latent[1:])
    require_close(alone, restored, autoencoder, "decodes a latent differently beside others in a batch", 1e-4)


@torch.no_grad()
def _tells_images_apart(autoencoder: Autoencoder) -> None:
    one, other = autoencoder.encode(_images(autoencoder))
    require(not torch.equal(one, other), autoencoder, "encodes two different images to the same latent")
    one, other = autoencoder.decode(torch.stack([one, other]))
    require(not torch.equal(one, other), autoencoder, "decodes two different latents to the same image")


def _images_get_gradients(autoencoder: Autoencoder) -> None:
    image = _images(autoencoder).requires_grad_()
    autoencoder.decode(autoencoder.encode(image)).square().sum().backward()
    require_gradients({"the image": image}, autoencoder)


def _evaluation_changes_nothing(autoencoder: Autoencoder) -> None:
    with unchanged_state(autoencoder):
        autoencoder.decode(autoencoder.encode(_images(autoencoder)))


@torch.no_grad()
def _is_built_again(autoencoder: Autoencoder, again: Autoencoder) -> None:
    image = _images(autoencoder)
    latent = autoencoder.encode(image)
    sentence = "differs from an autoencoder that was built from its config() and has its weights"
    require_same(again.encode(image), latent, autoencoder, sentence)
    require_same(again.decode(latent), autoencoder.decode(latent), autoencoder, sentence)
