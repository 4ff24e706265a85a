from ulcompress.losses.adversarial import AdversarialLoss
from ulcompress.losses.base import PerceptualDistance
from ulcompress.losses.discriminator import Discriminator
from ulcompress.losses.either import EitherDistance
from ulcompress.losses.exported import ExportedDistance
from ulcompress.losses.feature_discriminator import FeatureDiscriminator
from ulcompress.losses.feature_distance import FeatureDistance
from ulcompress.losses.lpips import LPIPS
from ulcompress.losses.map_distance import MapDistance
from ulcompress.losses.patch_discriminator import PatchDiscriminator

__all__ = [
    "LPIPS",
    "AdversarialLoss",
    "Discriminator",
    "EitherDistance",
    "ExportedDistance",
    "FeatureDiscriminator",
    "FeatureDistance",
    "MapDistance",
    "PatchDiscriminator",
    "PerceptualDistance",
]
