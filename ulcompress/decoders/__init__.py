from typing import TYPE_CHECKING

from ulcompress.functional.lazy import lazy_exports

if TYPE_CHECKING:
    from ulcompress.decoders.base import Decoder
    from ulcompress.decoders.base_reconstruction import BaseReconstruction
    from ulcompress.decoders.diffusion import DiffusionDecoder

__all__ = ["BaseReconstruction", "Decoder", "DiffusionDecoder"]
__getattr__, __dir__ = lazy_exports(
    __name__,
    BaseReconstruction="base_reconstruction",
    Decoder="base",
    DiffusionDecoder="diffusion",
)
