"""The contract of a perceptual distance."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from torch import Tensor

from ulcompress.part import Part

SMALLEST_SIDE = 32
"""Side in pixels below which images are padded before they are compared: the networks would reduce them to nothing."""


class PerceptualDistance(Part, ABC):
    """A fixed distance between images: it stays in evaluation mode and its parameters are frozen.

    Gradients flow to both images. They are finite for all images, equal and constant ones too.
    """

    name: str
    """Short name for logs and tables, which says what is measured, such as `lpips-vgg`."""

    @abstractmethod
    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Compare two batches of RGB in [0, 1], (B, 3, H, W); returns (B,), 0 for equal images."""

    def freeze(self) -> None:
        """Freeze all parameters and enter evaluation mode; constructors end with this."""
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "PerceptualDistance":
        """Stay in evaluation mode, whatever the training around it does."""
        return super().train(False)


class NetworkDistance(PerceptualDistance):
    """A distance between the feature maps that a network makes of two images, each by itself.

    Whoever compares many images with one reference makes the reference's maps once.
    """

    @abstractmethod
    def maps(self, images: Tensor) -> Iterable[Tensor]:
        """Return the feature maps, (B, C, h, w) each, of RGB in [0, 1], (B, 3, H, W)."""

    @abstractmethod
    def between(self, maps: Iterable[Tensor], others: Sequence[Tensor]) -> Tensor:
        """Return the distance, (B,), between the maps of two batches of images."""

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Compare two batches of RGB in [0, 1], (B, 3, H, W); returns (B,), 0 for equal images."""
        return self.between(self.maps(image), list(self.maps(reference)))
