"""The quantised features as a map of the condition."""

from typing import Any

from torch import Tensor

from ulcompress.conditioning.base import Conditioner
from ulcompress.part import loadable
from ulcompress.records import Condition


@loadable()
class SpatialFeatures(Conditioner):
    """Passes the quantised features to the decoder, which resamples them to its grid.

    Source: PerCo, arXiv 2310.10325, section 3: the local part of the condition.
    """

    provides = frozenset({"spatial"})

    def channels(self, features: int) -> dict[str, int]:
        """Return the channels of the features for `spatial`."""
        return {"spatial": features}

    def forward(self, side: Any, features: Tensor, condition: Condition) -> Condition:
        """Set `spatial` to the features, (B, C, h, w)."""
        return condition.with_(spatial=features)
