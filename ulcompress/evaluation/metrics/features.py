"""Images as points, so that sets of images can be compared."""

from __future__ import annotations

from torch import Tensor, nn

from ulcompress.losses.backbone import ImageNetScale, load_backbone


class PooledFeatures(nn.Module):
    """The last feature map of a torchvision classifier, averaged over all its positions."""

    def __init__(self, *, backbone: str = "squeezenet1_1", weights: str | None = None):
        """Load the backbone.

        Args:
            backbone: Name of the torchvision classifier.
            weights: A safetensors file of its state dictionary; None downloads torchvision's own file.

        Raises:
            ValueError: The backbone is unknown, or the weights are missing.
        """
        super().__init__()
        self.features = load_backbone(backbone, weights)
        self.scale = ImageNetScale()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Map RGB in [0, 1], (B, 3, H, W), to (B, C): 512 channels of SqueezeNet or VGG, 256 of AlexNet."""
        return self.features(self.scale(images)).mean((2, 3))
