"""A perceptual distance on the features of any torchvision classifier; not LPIPS, whose weights are learned."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ulcompress.part import Part

LAYERS = {
    "squeezenet1_1": (1, 4, 7, 9, 10, 11, 12),
    "vgg16": (3, 8, 15, 22, 29),
    "alexnet": (1, 4, 7, 9, 11),
}
"""Indices within `features` after whose activation the images are compared."""


class FeatureDistance(Part):
    """Mean squared distance between unit-normalised feature maps of two images, averaged over layers.

    Same construction as Zhang et al., The Unreasonable Effectiveness of Deep Features, CVPR 2018, equation 1, with
    equal weights for all channels. Name results after the backbone: the values are not comparable with LPIPS.
    """

    def __init__(self, *, weights: str | None = None, backbone: str = "squeezenet1_1"):
        """Load the backbone.

        Args:
            weights: A safetensors file of torchvision's state dictionary; None downloads torchvision's own file.
            backbone: Name of the torchvision model, one of `LAYERS`.

        Raises:
            ValueError: The backbone is unknown, or the weights are not there.
        """
        super().__init__()
        if backbone not in LAYERS:
            raise ValueError(f"backbone {backbone!r} is unknown; choose one of {', '.join(LAYERS)}")
        self.features = _load(backbone, weights).eval().requires_grad_(False)
        self.layers = LAYERS[backbone]
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225])[:, None, None], persistent=False)

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Compare two batches of RGB in [0, 1], (B, 3, H, W); returns (B,), 0 for equal images."""
        pair = (torch.cat([image, reference]) - self.mean) / self.std
        distances = []
        for index, layer in enumerate(self.features[: self.layers[-1] + 1]):
            pair = layer(pair)
            if index in self.layers:
                # The epsilon stays inside the root: its gradient at zero features would be infinite otherwise.
                unit = pair * torch.rsqrt(pair.square().sum(1, keepdim=True) + 1e-8)
                first, second = unit.float().chunk(2)
                distances.append((first - second).square().sum(1).mean((1, 2)))
        return torch.stack(distances).mean(0)

    def train(self, mode: bool = True) -> "FeatureDistance":
        """Stay in evaluation mode: the backbone is a fixed ruler."""
        return super().train(False)


def _load(backbone: str, weights: str | None) -> torch.nn.Sequential:
    import torchvision

    model = getattr(torchvision.models, backbone)()
    if weights is None:
        url = torchvision.models.get_model_weights(backbone)["DEFAULT"].url
        try:
            state = torch.hub.load_state_dict_from_url(url, weights_only=True, progress=False)
        except OSError as error:
            raise ValueError(
                f"cannot download {url}: {error}; give a safetensors file of {backbone} as weights"
            ) from error
    elif not Path(weights).is_file():
        raise ValueError(f"no file {weights!r}; weights must be a safetensors file of torchvision's {backbone}")
    else:
        state = _read(weights)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{weights!r} does not hold the weights of torchvision's {backbone}: {error}") from error
    for module in model.modules():
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False  # features are kept for the comparison
    return model.features


def _read(weights: str) -> dict[str, Tensor]:
    try:
        return {name: value.float() for name, value in load_file(weights).items()}
    except SafetensorError as error:
        raise ValueError(f"{weights!r} is no safetensors file ({error}); convert the state dictionary first") from error
