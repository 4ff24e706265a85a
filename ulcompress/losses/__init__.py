from ulcompress.losses.feature_distance import FeatureDistance

__all__ = ["FeatureDistance"]
