"""The quantised features as a map that the decoder sees."""

from typing import Any

from torch import Tensor

from ulcompress.conditioning.base import Conditioner
from ulcompress.part import loadable
from ulcompress.records import Condition


@loadable()
class SpatialFeatures(Conditioner):
    """Hands the quantised features to the decoder, which brings them to its own grid.

    Source: PerCo, arXiv 2310.10325, section 3: the local part of the condition.
    """

    provides = frozenset({"spatial"})

    def channels(self, features: int) -> dict[str, int]:
        """As many as the features have."""
        return {"spatial": features}

    def forward(self, side: Any, features: Tensor, condition: Condition) -> Condition:
        """Set `spatial` to the features, (B, C, h, w)."""
        return condition.with_(spatial=features)
