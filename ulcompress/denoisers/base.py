"""The contract of a denoiser: the network of a diffusion."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor

from ulcompress.part import Part
from ulcompress.records import Condition

Context = Sequence[Tensor]
"""What a denoiser computes from the condition alone, (B, ...) each."""


class Denoiser(Part, ABC):
    """Predicts from a noisy target, its noise level and the condition.

    condition ─► context, once a sample and patch ─┐
    x_t, level, condition ─────────────────────────┴─► forward, every step ─► prediction
    """

    channels: int
    """Of the target and of the prediction."""
    condition_channels: dict[str, int]
    """Channels that it expects of fields of the condition."""
    requires: frozenset[str]
    """Fields of the condition without which it cannot work; `estimate` is the decoder's estimate of the target."""
    multiple: int = 1
    """The target's sides are brought to multiples of this many positions."""

    def context(self, condition: Condition) -> Context:
        """Return what every step of a sample needs of the condition, whose maps are on the target's grid.

        It does not depend on the text, in whose place guidance shows the denoiser the empty caption.
        """
        return ()

    @abstractmethod
    def forward(self, noisy: Tensor, times: Tensor, condition: Condition, context: Context) -> Tensor:
        """Predict from x_t.

        Args:
            noisy: x_t, (B, C, h, w); sides are multiples of `multiple`.
            times: The noise level, (B,): from 0, clean, to 999.
            condition: Its maps are on the grid of x_t; a missing text or syntax is one of zeros.
            context: What `context` returned for this condition.

        Returns:
            The prediction, (B, C, h, w).
        """


def maps_of(condition: Condition, maps: Mapping[str, int]) -> list[Tensor]:
    """Return the maps of a condition, (B, C, h, w) each, that a network was built for: names and channels."""
    found = [condition[name] for name in maps]
    assert all(value is not None and value.shape[1] == maps[name] for name, value in zip(maps, found, strict=True))
    return [value for value in found if value is not None]


def check_maps(maps: Mapping[str, int]) -> dict[str, int]:
    """Return maps, name to channels, that a network shall see; ValueError where there is none, or without channels."""
    if not maps or min(maps.values()) < 1:
        raise ValueError(f"maps are fields of the condition and their channels, such as spatial: 64; got {dict(maps)}")
    return dict(maps)


def text_of(condition: Condition, channels: int, like: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the text's embeddings, (B, L, C), and mask; where there is no text a token of zeros that counts."""
    if condition.text is None:
        return like.new_zeros(len(like), 1, channels), None
    return condition.text, condition.text_mask
