"""The contract of what summarises a whole image in one vector, for the neural syntax."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ulcompress.part import Part


class Summary(Part, ABC):
    """Says in one vector what is to be known of an image, or of its difference from the base reconstruction."""

    dimension: int
    """Numbers of the vector."""
    sees_base: bool
    """Whether it looks at the base reconstruction too."""

    @classmethod
    @abstractmethod
    def nominal_dimension(cls, arguments: Mapping[str, Any]) -> int:
        """Return the dimension that these constructor arguments, defaults included, give."""

    @abstractmethod
    def forward(self, image: Tensor, base: Tensor | None = None) -> Tensor:
        """Map images in [0, 1], (B, 3, H, W) of any size, to real values, (B, dimension).

        The base has the image's size, or a smaller one where the image was padded for the encoder; the rest of the
        image is then ignored.

        Raises:
            ValueError: `sees_base` is set, but there is no base.
        """


def with_base(image: Tensor, base: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return image and base at the size of the base.

    Raises:
        ValueError: There is no base.
    """
    if base is None:
        raise ValueError(
            "the syntax compares the image with a base reconstruction, but there is none; list a conditioner that "
            "provides `base` (SynthesisTransform) before the syntax, or take a SyntaxGenerator with `sees_base` false"
        )
    return image[..., : base.shape[-2], : base.shape[-1]], base
