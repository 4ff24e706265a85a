from ulcompress.losses.adversarial import AdversarialLoss
from ulcompress.losses.base import PerceptualDistance
from ulcompress.losses.discriminator import PatchDiscriminator
from ulcompress.losses.either import EitherDistance
from ulcompress.losses.exported import ExportedDistance
from ulcompress.losses.feature_distance import FeatureDistance
from ulcompress.losses.lpips import LPIPS

__all__ = [
    "LPIPS",
    "AdversarialLoss",
    "EitherDistance",
    "ExportedDistance",
    "FeatureDistance",
    "PatchDiscriminator",
    "PerceptualDistance",
]
