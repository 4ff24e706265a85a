"""Perceptual image compression at ultra-low bitrates, composed of parts that anyone can swap."""

from typing import TYPE_CHECKING

from ulcompress.functional.lazy import lazy_exports

if TYPE_CHECKING:
    from ulcompress.codec import Codec
    from ulcompress.coding.bitstream import BitstreamError
    from ulcompress.pretrained import load, save

__version__ = "0.1.0"
__all__ = ["BitstreamError", "Codec", "__version__", "load", "save"]
__getattr__, __dir__ = lazy_exports(
    __name__, BitstreamError="coding.bitstream", Codec="codec", load="pretrained", save="pretrained"
)
