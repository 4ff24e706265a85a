from ulcompress.entropy.base import EntropyModel
from ulcompress.entropy.context import ContextModel
from ulcompress.entropy.staged import StagedEntropy, StaticStages
from ulcompress.entropy.static import StaticEntropy
from ulcompress.entropy.uniform import UniformEntropy

__all__ = ["ContextModel", "EntropyModel", "StagedEntropy", "StaticEntropy", "StaticStages", "UniformEntropy"]
