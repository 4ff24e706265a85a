from ulcompress.encoders.analysis import AnalysisTransform
from ulcompress.encoders.base import Encoder
from ulcompress.encoders.hyper import HyperEncoder

__all__ = ["AnalysisTransform", "Encoder", "HyperEncoder"]
