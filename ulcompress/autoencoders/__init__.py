from ulcompress.autoencoders.base import Autoencoder
from ulcompress.autoencoders.cosine import CosineAutoencoder
from ulcompress.autoencoders.kl import KLAutoencoder
from ulcompress.autoencoders.pixels import PixelSpace

__all__ = ["Autoencoder", "CosineAutoencoder", "KLAutoencoder", "PixelSpace"]
