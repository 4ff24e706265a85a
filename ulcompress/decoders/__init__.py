from ulcompress.decoders.base import Decoder
from ulcompress.decoders.base_reconstruction import BaseReconstruction
from ulcompress.decoders.diffusion import DiffusionDecoder

__all__ = ["BaseReconstruction", "Decoder", "DiffusionDecoder"]
