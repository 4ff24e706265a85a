from ulcompress.entropy.base import EntropyModel
from ulcompress.entropy.static import StaticEntropy
from ulcompress.entropy.uniform import UniformEntropy

__all__ = ["EntropyModel", "StaticEntropy", "UniformEntropy"]
