from typing import TYPE_CHECKING

from ulcompress.functional.lazy import lazy_exports

if TYPE_CHECKING:
    from ulcompress.losses.adversarial import AdversarialLoss
    from ulcompress.losses.base import NetworkDistance, PerceptualDistance
    from ulcompress.losses.discriminator import Discriminator
    from ulcompress.losses.dists import DISTS
    from ulcompress.losses.either import EitherDistance
    from ulcompress.losses.exported import ExportedDistance
    from ulcompress.losses.feature_discriminator import FeatureDiscriminator
    from ulcompress.losses.feature_distance import FeatureDistance
    from ulcompress.losses.lpips import LPIPS
    from ulcompress.losses.map_distance import MapDistance
    from ulcompress.losses.patch_discriminator import PatchDiscriminator

__all__ = [
    "DISTS",
    "LPIPS",
    "AdversarialLoss",
    "Discriminator",
    "EitherDistance",
    "ExportedDistance",
    "FeatureDiscriminator",
    "FeatureDistance",
    "MapDistance",
    "NetworkDistance",
    "PatchDiscriminator",
    "PerceptualDistance",
]
__getattr__, __dir__ = lazy_exports(
    __name__,
    DISTS="dists",
    LPIPS="lpips",
    AdversarialLoss="adversarial",
    Discriminator="discriminator",
    EitherDistance="either",
    ExportedDistance="exported",
    FeatureDiscriminator="feature_discriminator",
    FeatureDistance="feature_distance",
    MapDistance="map_distance",
    NetworkDistance="base",
    PatchDiscriminator="patch_discriminator",
    PerceptualDistance="base",
)
