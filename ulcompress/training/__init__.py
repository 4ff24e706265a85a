from ulcompress.training.autoencoder import AutoencoderModule
from ulcompress.training.codec import CodecModule
from ulcompress.training.optimizer import WarmupAdamW
from ulcompress.training.parts import import_parts

__all__ = ["AutoencoderModule", "CodecModule", "WarmupAdamW"]

import_parts()
