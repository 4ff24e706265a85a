from ulcompress.training.autoencoder import AutoencoderModule
from ulcompress.training.codec import CodecModule
from ulcompress.training.coded_image import CodedImage
from ulcompress.training.optimizer import WarmupAdamW

__all__ = ["AutoencoderModule", "CodecModule", "CodedImage", "WarmupAdamW"]
