from ulcompress.encoders.base import Encoder
from ulcompress.encoders.hyper import HyperEncoder

__all__ = ["Encoder", "HyperEncoder"]
