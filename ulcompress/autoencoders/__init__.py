from ulcompress.autoencoders.base import Autoencoder
from ulcompress.autoencoders.kl import KLAutoencoder

__all__ = ["Autoencoder", "KLAutoencoder"]
