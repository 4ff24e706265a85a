from typing import TYPE_CHECKING

from ulcompress.functional.lazy import lazy_exports

if TYPE_CHECKING:
    from ulcompress.autoencoders.base import Autoencoder
    from ulcompress.autoencoders.cosine import CosineAutoencoder
    from ulcompress.autoencoders.kl import KLAutoencoder
    from ulcompress.autoencoders.pixels import PixelSpace
    from ulcompress.autoencoders.tiny import TinyAutoencoder

__all__ = ["Autoencoder", "CosineAutoencoder", "KLAutoencoder", "PixelSpace", "TinyAutoencoder"]
__getattr__, __dir__ = lazy_exports(
    __name__,
    Autoencoder="base",
    CosineAutoencoder="cosine",
    KLAutoencoder="kl",
    PixelSpace="pixels",
    TinyAutoencoder="tiny",
)
