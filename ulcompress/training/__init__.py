from ulcompress.training.acceleration import Acceleration
from ulcompress.training.autoencoder import AutoencoderModule
from ulcompress.training.autoencoder_loss import AutoencoderLoss
from ulcompress.training.codec import CodecModule
from ulcompress.training.codec_loss import CodecLoss
from ulcompress.training.codec_stage import CodecStage
from ulcompress.training.coded_image import CodedImage
from ulcompress.training.distillation import DistillationModule
from ulcompress.training.distillation_loss import DistillationLoss
from ulcompress.training.freezing import Freezing
from ulcompress.training.imitation import ImitationModule
from ulcompress.training.imitation_loss import ImitationLoss
from ulcompress.training.interruption import InterruptionCheckpoint
from ulcompress.training.optimizer import ScheduledOptimizer, WarmupAdamW
from ulcompress.training.parts import import_parts
from ulcompress.training.preparation import Preparation
from ulcompress.training.start import Start
from ulcompress.training.trajectory import Trajectory

__all__ = [
    "Acceleration",
    "AutoencoderLoss",
    "AutoencoderModule",
    "CodecLoss",
    "CodecModule",
    "CodecStage",
    "CodedImage",
    "DistillationLoss",
    "DistillationModule",
    "Freezing",
    "ImitationLoss",
    "ImitationModule",
    "InterruptionCheckpoint",
    "Preparation",
    "ScheduledOptimizer",
    "Start",
    "Trajectory",
    "WarmupAdamW",
]

import_parts()
