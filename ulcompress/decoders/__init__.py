from ulcompress.decoders.base import Decoder
from ulcompress.decoders.latent_diffusion import LatentDiffusionDecoder
from ulcompress.decoders.unet import UNet

__all__ = ["Decoder", "LatentDiffusionDecoder", "UNet"]
