from typing import TYPE_CHECKING

from ulcompress.functional.lazy import lazy_exports

if TYPE_CHECKING:
    from ulcompress.encoders.analysis import AnalysisTransform
    from ulcompress.encoders.base import Encoder
    from ulcompress.encoders.block import BlockEncoder
    from ulcompress.encoders.cosine import CosineEncoder
    from ulcompress.encoders.hyper import HyperEncoder

__all__ = ["AnalysisTransform", "BlockEncoder", "CosineEncoder", "Encoder", "HyperEncoder"]
__getattr__, __dir__ = lazy_exports(
    __name__,
    AnalysisTransform="analysis",
    BlockEncoder="block",
    CosineEncoder="cosine",
    Encoder="base",
    HyperEncoder="hyper",
)
