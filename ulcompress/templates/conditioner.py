"""A conditioner: a field of the decoder's condition, and what it costs."""

import torch
from torch import Tensor

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder, SymbolTable
from ulcompress.conditioning import Conditioner
from ulcompress.part import loadable
from ulcompress.records import Condition, Source

LEVELS = SymbolTable.uniform(256)


@loadable()
class Template(Conditioner):
    """Sends the mean brightness of an image in one byte, and provides it as a map, `brightness`."""

    provides = frozenset({"brightness"})
    sends = True

    def channels(self, features: int) -> dict[str, int]:
        """Return one channel."""
        return {"brightness": 1}

    def encode(self, source: Source, condition: Condition) -> Tensor:
        """Return the brightness, 0 to 255, (B, 1)."""
        return (255 * source.image.mean((1, 2, 3))).round().long()[:, None]

    def nothing(self) -> Tensor:
        """Return a medium brightness, in place of none."""
        return torch.full((1, 1), 128)

    def bits(self, side: Tensor) -> Tensor:
        """Return 8 bits for each image."""
        return torch.full((len(side),), 8.0, device=side.device)

    def write(self, side: Tensor, coder: ArithmeticEncoder) -> None:
        """Code the brightness of one image."""
        LEVELS.encode(int(side), coder)

    def read(self, coder: ArithmeticDecoder) -> Tensor:
        """Read the brightness of one image."""
        return torch.tensor([[LEVELS.decode(coder)]])

    def forward(self, side: Tensor, features: Tensor, condition: Condition) -> Condition:
        """Set `brightness`, in [-1, 1], (B, 1, h, w), on the grid of the features."""
        values = 2 * side.to(features) / 255 - 1
        return condition.with_(brightness=values[:, :, None, None].expand(-1, -1, *features.shape[-2:]))
