"""Random conditions for parts that expect fields of them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ulcompress.records import Condition

TOKENS = 4
NO_GRADIENT = frozenset({"text_mask", "text_null"})
"""Fields that select or replace others, to which a loss has no gradient."""


def random_condition(channels: Mapping[str, int], shape: tuple[int, int], *, count: int, coarser: int = 1) -> Condition:
    """Draw the fields of a condition.

    Args:
        channels: Of each field. `text` is tokens, of which the mask leaves out some, and comes with its mask and the
            empty caption; `syntax` is a vector, and every other field a map.
        shape: Grid of the maps: rows and columns.
        count: Number of images.
        coarser: Positions of that grid, along each side, for one of `spatial`.
    """
    fields: dict[str, Tensor] = {}
    for name, width in channels.items():
        if name == "text":
            fields |= _text(count, width)
        elif name == "syntax":
            fields[name] = torch.randn(count, width)
        elif name == "base":
            fields[name] = torch.rand(count, width, *shape)
        else:
            scale = coarser if name == "spatial" else 1
            fields[name] = torch.randn(count, width, *(-(-side // scale) for side in shape))
    return Condition().with_(**fields)


def without_text(condition: Condition) -> Condition:
    """Return a condition as it is where no caption is sent."""
    return condition.with_(text=None, text_mask=None, text_null=None)


def track(condition: Condition) -> dict[str, Tensor]:
    """Let the fields that can have a gradient collect it, and return them by name."""
    values = {name: condition[name] for name in condition.provided - NO_GRADIENT}
    return {name: value.requires_grad_() for name, value in values.items() if value is not None}


def _text(count: int, width: int) -> dict[str, Tensor]:
    lengths = 1 + (torch.arange(count) + 2) % TOKENS
    return {
        "text": torch.randn(count, TOKENS, width),
        "text_mask": torch.arange(TOKENS) < lengths[:, None],
        "text_null": torch.randn(count, 1, width),
    }
