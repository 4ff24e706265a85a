"""Checks of the contracts of all slots, for parts of this package and of others; each fails with one sentence."""

from ulcompress.testing.autoencoder import check_autoencoder
from ulcompress.testing.conditioner import check_conditioner
from ulcompress.testing.decoder import check_decoder
from ulcompress.testing.denoiser import check_denoiser
from ulcompress.testing.distance import check_distance
from ulcompress.testing.encoder import check_encoder
from ulcompress.testing.entropy_model import check_entropy_model
from ulcompress.testing.estimate import check_estimate
from ulcompress.testing.quantizer import check_quantizer
from ulcompress.testing.sampler import check_sampler
from ulcompress.testing.schedule import check_schedule

__all__ = [
    "check_autoencoder",
    "check_conditioner",
    "check_decoder",
    "check_denoiser",
    "check_distance",
    "check_encoder",
    "check_entropy_model",
    "check_estimate",
    "check_quantizer",
    "check_sampler",
    "check_schedule",
]
