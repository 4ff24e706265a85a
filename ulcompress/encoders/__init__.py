from typing import TYPE_CHECKING

from ulcompress.functional.lazy import lazy_exports

if TYPE_CHECKING:
    from ulcompress.encoders.analysis import AnalysisTransform
    from ulcompress.encoders.base import Encoder
    from ulcompress.encoders.block import BlockEncoder
    from ulcompress.encoders.colour import ColourEncoder
    from ulcompress.encoders.concatenated import ConcatenatedEncoder
    from ulcompress.encoders.cosine import CosineEncoder
    from ulcompress.encoders.hyper import HyperEncoder

__all__ = [
    "AnalysisTransform",
    "BlockEncoder",
    "ColourEncoder",
    "ConcatenatedEncoder",
    "CosineEncoder",
    "Encoder",
    "HyperEncoder",
]
__getattr__, __dir__ = lazy_exports(
    __name__,
    AnalysisTransform="analysis",
    BlockEncoder="block",
    ColourEncoder="colour",
    ConcatenatedEncoder="concatenated",
    CosineEncoder="cosine",
    Encoder="base",
    HyperEncoder="hyper",
)
