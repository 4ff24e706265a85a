from ulcompress.decoders.base import Decoder
from ulcompress.decoders.base_reconstruction import BaseReconstruction
from ulcompress.decoders.consistency import ConsistencyEncoder
from ulcompress.decoders.consistency_guided import ConsistencyGuidedDecoder
from ulcompress.decoders.guided_unet import GuidedUNet
from ulcompress.decoders.latent_diffusion import LatentDiffusionDecoder
from ulcompress.decoders.linear_estimate import LinearEstimate
from ulcompress.decoders.unet import UNet

__all__ = [
    "BaseReconstruction",
    "ConsistencyEncoder",
    "ConsistencyGuidedDecoder",
    "Decoder",
    "GuidedUNet",
    "LatentDiffusionDecoder",
    "LinearEstimate",
    "UNet",
]
