from typing import TYPE_CHECKING

from ulcompress.functional.lazy import lazy_exports

if TYPE_CHECKING:
    from ulcompress.quantizers.base import Quantizer
    from ulcompress.quantizers.finite_scalar import FiniteScalarQuantizer
    from ulcompress.quantizers.hyperprior import HyperpriorQuantizer
    from ulcompress.quantizers.lookup_free import LookupFreeQuantizer
    from ulcompress.quantizers.residual import ResidualQuantizer
    from ulcompress.quantizers.strings import StringQuantizer
    from ulcompress.quantizers.vector import VectorQuantizer

__all__ = [
    "FiniteScalarQuantizer",
    "HyperpriorQuantizer",
    "LookupFreeQuantizer",
    "Quantizer",
    "ResidualQuantizer",
    "StringQuantizer",
    "VectorQuantizer",
]
__getattr__, __dir__ = lazy_exports(
    __name__,
    FiniteScalarQuantizer="finite_scalar",
    HyperpriorQuantizer="hyperprior",
    LookupFreeQuantizer="lookup_free",
    Quantizer="base",
    ResidualQuantizer="residual",
    StringQuantizer="strings",
    VectorQuantizer="vector",
)
