from typing import TYPE_CHECKING

from ulcompress.functional.lazy import lazy_exports

if TYPE_CHECKING:
    from ulcompress.entropy.base import EntropyModel
    from ulcompress.entropy.context import ContextModel
    from ulcompress.entropy.staged import StagedEntropy, StaticStages
    from ulcompress.entropy.static import StaticEntropy
    from ulcompress.entropy.uniform import UniformEntropy

__all__ = ["ContextModel", "EntropyModel", "StagedEntropy", "StaticEntropy", "StaticStages", "UniformEntropy"]
__getattr__, __dir__ = lazy_exports(
    __name__,
    ContextModel="context",
    EntropyModel="base",
    StagedEntropy="staged",
    StaticEntropy="static",
    StaticStages="staged",
    UniformEntropy="uniform",
)
