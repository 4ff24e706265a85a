"""The contract of a perceptual distance, as checks."""

import torch
from torch import Tensor

from ulcompress.losses.base import PerceptualDistance
from ulcompress.testing.requirements import (
    copy_of,
    rebuilt,
    require,
    require_close,
    require_gradients,
    require_same,
    unchanged_state,
)

SIDE = 64


def check_distance(distance: PerceptualDistance) -> None:
    """Check that a perceptual distance keeps its contract; the distance itself is left as it is.

    - it is positive between different images and 0 between equal ones, symmetric, one number an image that does not
      depend on the batch, for images of one pixel and more;
    - more noise is further away;
    - gradients are finite for all images, equal, constant, black and white ones too, and reach an image that differs;
    - it is frozen and stays in evaluation mode, whatever the training around it does; measuring changes no state;
    - `config()` builds an equal distance.

    Raises:
        AssertionError: It does not; the message says what it did and what the contract wants.
    """
    with copy_of(distance) as part:
        _is_one_number_an_image(part)
        _is_symmetric(part)
        for shape in ((1, 1), (7, 40), (16, 16)):
            _compares_any_size(part, *shape)
        _grows_with_noise(part)
        _has_a_gradient_at_zero(part)
        for level in (0.0, 0.5, 1.0):
            _has_a_gradient_at_constant_images(part, level)
        _is_frozen(part)
        _changes_nothing(part)
        _is_built_again(part, rebuilt(part, PerceptualDistance))


def _images(count: int = 3) -> Tensor:
    """Draw two batches of images, (2, count, 3, H, W)."""
    return torch.rand(2, count, 3, SIDE, SIDE + 16)


@torch.no_grad()
def _is_one_number_an_image(distance: PerceptualDistance) -> None:
    one, other = _images()
    value = distance(one, other)
    require(value.shape == (3,), distance, f"is of shape {tuple(value.shape)} for 3 pairs of images; give (3,)")
    require((value > 0).all(), distance, f"is {value.tolist()} between different images; it must be positive")
    sentence = "is another for an image beside others in a batch"
    require_close(distance(one[1:2], other[1:2]), value[1:2], distance, sentence)


@torch.no_grad()
def _is_symmetric(distance: PerceptualDistance) -> None:
    one, other = _images()
    require_close(distance(one, other), distance(other, one), distance, "is another when the two images are swapped")


@torch.no_grad()
def _compares_any_size(distance: PerceptualDistance, height: int, width: int) -> None:
    one, other = torch.rand(2, 1, 3, height, width)
    size = f"of {height} x {width} pixels"
    require(distance(one, one) == 0, distance, f"is not 0 between equal images {size}")
    value = distance(one, other)
    positive = value.isfinite().all() and (value > 0).all()
    require(positive, distance, f"is {value.tolist()} between different images {size}; it must be positive")


@torch.no_grad()
def _grows_with_noise(distance: PerceptualDistance) -> None:
    image, noise = torch.rand(1, 3, SIDE, SIDE), torch.randn(1, 3, SIDE, SIDE)
    values = [float(distance(image + scale * noise, image)) for scale in (0.01, 0.05, 0.2)]
    grows = values == sorted(values) and values[0] < 0.5 * values[2]
    require(grows, distance, f"is {values} for noise of 0.01, 0.05 and 0.2; more noise must be further away")


def _has_a_gradient_at_zero(distance: PerceptualDistance) -> None:
    image = torch.rand(2, 3, SIDE, SIDE, requires_grad=True)
    value = distance(image, image.detach().clone())
    require(value.tolist() == [0, 0], distance, f"is {value.tolist()} between equal images; it must be 0")
    value.sum().backward()
    _require_finite(distance, image, "equal images")


def _has_a_gradient_at_constant_images(distance: PerceptualDistance, level: float) -> None:
    image = torch.full((1, 3, SIDE, SIDE), level, requires_grad=True)
    distance(image, torch.rand(1, 3, SIDE, SIDE)).sum().backward()
    require_gradients({f"an image that is {level} everywhere": image}, distance)
    image.grad = None
    distance(image, torch.full((1, 3, SIDE, SIDE), level)).sum().backward()
    _require_finite(distance, image, f"two images that are {level} everywhere")


def _require_finite(distance: PerceptualDistance, image: Tensor, images: str) -> None:
    finite = image.grad is not None and image.grad.isfinite().all()
    require(finite, distance, f"has a gradient that is not finite for {images}")


@torch.no_grad()
def _is_frozen(distance: PerceptualDistance) -> None:
    pair = _images(1)
    before = distance(*pair)
    learning = [name for name, parameter in distance.named_parameters() if parameter.requires_grad]
    require(not learning, distance, f"lets {', '.join(learning)} be trained; end the constructor with freeze()")
    torch.nn.Sequential(distance).train()
    steady = not any(module.training for module in distance.modules())
    require(steady, distance, "enters training mode with the training around it; a ruler stays in evaluation mode")
    require_same(distance(*pair), before, distance, "measures differently once the training around it has begun")


def _changes_nothing(distance: PerceptualDistance) -> None:
    with unchanged_state(distance):
        distance(*_images(1))


@torch.no_grad()
def _is_built_again(distance: PerceptualDistance, again: PerceptualDistance) -> None:
    pair = _images(1)
    sentence = "differs from a distance that was built from its config()"
    require_same(again(*pair), distance(*pair), distance, sentence)
    require(again.state_dict().keys() == distance.state_dict().keys(), distance, sentence)
