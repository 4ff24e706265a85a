from ulcompress.losses.adversarial import AdversarialLoss
from ulcompress.losses.base import PerceptualDistance
from ulcompress.losses.discriminator import PatchDiscriminator
from ulcompress.losses.feature_distance import FeatureDistance
from ulcompress.losses.lpips import LPIPS

__all__ = ["LPIPS", "AdversarialLoss", "FeatureDistance", "PatchDiscriminator", "PerceptualDistance"]
