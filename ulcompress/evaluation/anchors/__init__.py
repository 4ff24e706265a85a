from collections.abc import Callable, Mapping
from functools import partial

from ulcompress.evaluation.anchors.base import FACTORS, Anchor, Match, match
from ulcompress.evaluation.anchors.pillow import FORMATS, PillowAnchor
from ulcompress.evaluation.anchors.programs import BPG, VTM
from ulcompress.evaluation.anchors.zoo import ZooAnchor
from ulcompress.learned.catalogue import ZOO

ANCHORS: Mapping[str, Callable[[], Anchor]] = {
    **{name: partial(PillowAnchor, name=name) for name in FORMATS},
    "bpg": BPG,
    "vtm": VTM,
    **{name: partial(ZooAnchor, name=name) for name in ZOO},
}
"""By the name that `--anchor` takes."""

__all__ = ["ANCHORS", "BPG", "FACTORS", "FORMATS", "VTM", "Anchor", "Match", "PillowAnchor", "ZooAnchor", "match"]
