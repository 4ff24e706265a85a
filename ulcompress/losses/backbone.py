"""Feature maps of torchvision's classifiers, by which images are compared."""

from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

TITLES = {"squeezenet1_1": "SqueezeNet 1.1", "vgg16": "VGG-16", "alexnet": "AlexNet"}
"""The backbones by their torchvision name, as prose names them."""


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
        name: Of the torchvision model, one of `TITLES`.
        weights: A safetensors file of its state dictionary, or torchvision's own .pth; None downloads that.

    Raises:
        ValueError: The name is unknown, or the weights are not there or of another model.
    """
    if name not in TITLES:
        raise ValueError(f"backbone {name!r} is unknown; choose one of {', '.join(TITLES)}")
    import torchvision

    with torch.device("meta"):  # no time and no random numbers for weights that are replaced
        features: nn.Sequential = getattr(torchvision.models, name)().features
    state = _download(name) if weights is None else _read(weights, name)
    # The classifier behind the features is most of VGG-16, and is not needed.
    own = {key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")}
    try:
        features.load_state_dict(own, assign=True)
    except RuntimeError as error:
        raise ValueError(
            f"{weights!r} does not hold the weights of torchvision's {name}; save its state_dict() with safetensors"
        ) from error
    for module in features.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # features are kept for comparisons
    return features.eval().requires_grad_(False)


def _download(name: str) -> dict[str, Tensor]:
    import torchvision

    url = torchvision.models.get_model_weights(name)["DEFAULT"].url
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
        return {key: value.float() for key, value in state.items()}
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, KeyError, AttributeError) as error:
        raise ValueError(f"{weights!r} cannot be read as a state dictionary of torchvision's {name}") from error
