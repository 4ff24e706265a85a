"""Feature maps of torchvision's classifiers, by which images are compared."""

import copy
import itertools
from collections import OrderedDict
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

EXAMPLES = "squeezenet1_1, vgg16, alexnet"
"""Classifiers that error messages name as examples."""


class ImageNetScale(nn.Module):
    """Maps RGB in [0, 1], (B, 3, H, W), to the mean and deviation that torchvision's classifiers were trained with."""

    def __init__(self):
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225])[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the images with zero mean and unit deviation over ImageNet."""
        return (images - self.mean) / self.std


def load_backbone(name: str, weights: str | None) -> nn.Sequential:
    """Return the convolutional layers of a torchvision classifier, in evaluation mode and frozen.

    Args:
        name: Name of any torchvision classifier whose layers before the average over positions are a chain.
        weights: A safetensors file of its state dictionary, or torchvision's .pth file; None downloads the latter.

    Raises:
        ValueError: There is no such classifier, or its weights are missing or those of another model.
    """
    prefix, features = _layers(name)
    state = _download(name) if weights is None else _read(weights, name)
    # The classifier behind the features is most of VGG-16, and is not needed.
    convolutional = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    try:
        features.load_state_dict({key: convolutional[key] for key in features.state_dict()}, assign=True)
    except (RuntimeError, KeyError) as error:
        raise ValueError(
            f"{weights!r} does not hold the weights of torchvision's {name}; save its state_dict() with safetensors"
        ) from error
    for module in features.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # pyright: ignore[reportArgumentType]  # features are compared later
    return features.eval().requires_grad_(False)


def is_backbone(name: str) -> bool:
    """Tell whether torchvision has a classifier of this name."""
    import torchvision

    return name in torchvision.models.list_models(module=torchvision.models)


def default_weights(name: str) -> str:
    """Return where torchvision publishes the weights of a classifier."""
    import torchvision

    return torchvision.models.get_model_weights(name)["DEFAULT"].url


def sizes(features: nn.Sequential) -> list[int]:
    """Return the side of the map behind each layer, for an image of 224 pixels."""
    sides, hidden = [], torch.empty(1, 3, 224, 224, device="meta")
    for layer in copy.deepcopy(features).to("meta"):
        hidden = layer(hidden)
        sides.append(hidden.shape[-1])
    return sides


def _layers(name: str) -> tuple[str, nn.Sequential]:
    """Return the prefix of the layers' keys in a state dictionary, and the layers without weights."""
    import torchvision

    if not is_backbone(name):
        raise ValueError(f"backbone {name!r} is unknown; name a torchvision classifier, such as {EXAMPLES}")
    with torch.device("meta"):  # initial weights, which are replaced, would cost time and random numbers
        model = torchvision.models.get_model(name, weights=None)
        child = getattr(model, "features", None)
        prefix, layers = ("features.", child) if isinstance(child, nn.Sequential) else ("", _before_average(model))
        try:
            shape = layers.eval()(torch.empty(1, 3, 224, 224)).shape
        except (RuntimeError, TypeError, AttributeError, AssertionError):
            shape = ()
    if len(shape) != 4 or shape[-1] != shape[-2]:
        raise ValueError(f"{name!r} is no chain of convolutional layers; name another, such as {EXAMPLES}")
    return prefix, layers


def _before_average(model: nn.Module) -> nn.Sequential:
    chain = itertools.takewhile(lambda child: child[0] not in ("avgpool", "fc", "classifier"), model.named_children())
    return nn.Sequential(OrderedDict(chain))


def _download(name: str) -> dict[str, Tensor]:
    url = default_weights(name)
    try:
        return torch.hub.load_state_dict_from_url(url, map_location="cpu", weights_only=True, progress=False)
    except OSError as error:
        raise ValueError(f"cannot download {url}: {error}; give a safetensors file of {name} as weights") from error


def _read(weights: str, name: str) -> dict[str, Tensor]:
    if not Path(weights).is_file():
        raise ValueError(
            f"no file {weights!r}; weights must be a safetensors file of torchvision's {name}, or its .pth"
        )
    try:
        if Path(weights).suffix == ".pth":
            state = torch.load(weights, map_location="cpu", weights_only=True)
        else:
            state = load_file(weights)
        return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, KeyError, AttributeError) as error:
        raise ValueError(f"{weights!r} cannot be read as a state dictionary of torchvision's {name}") from error
