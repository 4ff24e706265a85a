"""The contract of a denoiser: the network of a diffusion."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from ulcompress.part import Part
from ulcompress.records import Condition

Context = Sequence[Tensor]
"""Features that a denoiser computes from the condition alone, (B, ...) each."""


class Denoiser(Part, ABC):
    """Predicts from a noisy target, its noise level and the condition.

    condition ─► context, once a sample and patch ─┐
    x_t, level, condition ─────────────────────────┴─► forward, every step ─► prediction
    """

    channels: int
    """Channels of the target and of the prediction."""
    condition_channels: dict[str, int]
    """Expected channels of fields of the condition, by the names of the fields."""
    requires: frozenset[str]
    """Fields of the condition without which it cannot work; `estimate` is the decoder's estimate of the target."""
    multiple: int = 1
    """The target's sides are padded to multiples of this many positions."""

    def context(self, condition: Condition) -> Context:
        """Return the features of the condition that all steps of a sample share; its maps are on the target's grid.

        They do not depend on the text, which guidance replaces by the empty caption.
        """
        return ()

    def checkpoint_activations(self) -> None:
        """Compute activations a second time for gradients from now on; ValueError where the network cannot."""
        raise ValueError(f"{type(self).__name__} has no gradient checkpointing; leave acceleration.checkpointing out")

    def blocks(self) -> Sequence[nn.Module]:
        """Return modules, none within another, that are called one after another and hold most of the parameters."""
        return ()

    @abstractmethod
    def forward(self, noisy: Tensor, times: Tensor, condition: Condition, context: Context) -> Tensor:
        """Predict from x_t.

        Args:
            noisy: x_t, (B, C, h, w); sides are multiples of `multiple`.
            times: The noise level, (B,): from 0, clean, to 999.
            condition: Condition with its maps on the grid of x_t; a missing text or syntax counts as zeros.
            context: Result of `context` for this condition.

        Returns:
            The prediction, (B, C, h, w).
        """


def maps_of(condition: Condition, maps: Mapping[str, int]) -> list[Tensor]:
    """Return the maps of a condition, (B, C, h, w) each, that a network was built for; `maps` is name to channels."""
    found = [condition[name] for name in maps]
    assert all(value is not None and value.shape[1] == maps[name] for name, value in zip(maps, found, strict=True))
    return [value for value in found if value is not None]


def check_maps(maps: Mapping[str, int]) -> dict[str, int]:
    """Return the maps, name to channels, that a network takes; ValueError for no map, or for one without channels."""
    if not maps or min(maps.values()) < 1:
        raise ValueError(f"maps are fields of the condition and their channels, such as spatial: 64; got {dict(maps)}")
    return dict(maps)


def text_of(condition: Condition, channels: int, like: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the text's embeddings, (B, L, C), and mask; without a text, one token of zeros and no mask."""
    if condition.text is None:
        return like.new_zeros(len(like), 1, channels), None
    return condition.text, condition.text_mask
