from ulcompress.training.autoencoder import AutoencoderModule
from ulcompress.training.codec import CodecModule

__all__ = ["AutoencoderModule", "CodecModule"]
