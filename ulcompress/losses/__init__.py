from ulcompress.losses.base import PerceptualDistance
from ulcompress.losses.feature_distance import FeatureDistance
from ulcompress.losses.lpips import LPIPS

__all__ = ["LPIPS", "FeatureDistance", "PerceptualDistance"]
