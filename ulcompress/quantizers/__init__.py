from ulcompress.quantizers.base import Quantizer
from ulcompress.quantizers.finite_scalar import FiniteScalarQuantizer
from ulcompress.quantizers.vector import VectorQuantizer

__all__ = ["FiniteScalarQuantizer", "Quantizer", "VectorQuantizer"]
