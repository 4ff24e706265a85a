"""LPIPS, the learned perceptual distance of the literature."""

from torch import Tensor, nn

from ulcompress.functional.padding import pad_to_minimum
from ulcompress.losses.backbone import load_backbone
from ulcompress.losses.base import SMALLEST_SIDE, PerceptualDistance

BACKBONES = {"vgg": "vgg16", "alex": "alexnet", "squeeze": "squeezenet1_1"}
"""The torchvision model behind each of the networks that LPIPS knows."""


class LPIPS(PerceptualDistance):
    """Learned perceptual image patch similarity, version 0.1: torchmetrics' network and learned weights of channels.

    Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR 2018, equation 1. With
    torchvision's weights the values are those of the literature; papers measure with `alex` and train with `vgg`.
    """

    def __init__(self, *, net: str = "vgg", weights: str | None = None):
        """Load the network.

        Args:
            net: One of `BACKBONES`.
            weights: A safetensors file of the state dictionary of torchvision's vgg16, alexnet or squeezenet1_1; None
                downloads torchvision's file. The weights of the channels come with torchmetrics.

        Raises:
            ValueError: The network is unknown, or its weights are missing.
        """
        super().__init__()
        if net not in BACKBONES:
            raise ValueError(f"net {net!r} is unknown; choose one of {', '.join(BACKBONES)}")
        self.name = f"lpips-{net}"
        self.network = _network(net, load_backbone(BACKBONES[net], weights))
        self.freeze()

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Compare two batches of RGB in [0, 1], (B, 3, H, W); returns (B,), 0 for equal images."""
        image, reference = (pad_to_minimum(each, SMALLEST_SIDE) for each in (image, reference))
        return self.network(image, reference, normalize=True).flatten()  # takes [0, 1] to the [-1, 1] of LPIPS


def _network(net: str, features: nn.Sequential) -> nn.Module:
    from torchmetrics.functional.image.lpips import _LPIPS

    network = _LPIPS(net=net, pnet_rand=True)  # type: ignore[arg-type]
    # The backbone is cut into slices, in which every layer keeps its index within torchvision's features.
    for slice_ in (module for module in network.net.modules() if isinstance(module, nn.Sequential)):
        for index, layer in slice_.named_children():
            layer.load_state_dict(features[int(index)].state_dict())
    return network
