from ulcompress.encoders.analysis import AnalysisTransform
from ulcompress.encoders.base import Encoder
from ulcompress.encoders.cosine import CosineEncoder
from ulcompress.encoders.hyper import HyperEncoder

__all__ = ["AnalysisTransform", "CosineEncoder", "Encoder", "HyperEncoder"]
