from ulcompress.denoisers.base import Context, Denoiser
from ulcompress.denoisers.consistency import ConsistencyEncoder
from ulcompress.denoisers.guided_unet import GuidedUNet
from ulcompress.denoisers.unet import UNet

__all__ = ["ConsistencyEncoder", "Context", "Denoiser", "GuidedUNet", "UNet"]
