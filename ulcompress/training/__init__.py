from ulcompress.training.autoencoder import AutoencoderModule
from ulcompress.training.codec import CodecModule
from ulcompress.training.coded_image import CodedImage
from ulcompress.training.interruption import InterruptionCheckpoint
from ulcompress.training.optimizer import WarmupAdamW
from ulcompress.training.parts import import_parts

__all__ = ["AutoencoderModule", "CodecModule", "CodedImage", "InterruptionCheckpoint", "WarmupAdamW"]

import_parts()
