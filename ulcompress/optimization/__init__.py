from ulcompress.optimization.online import OnlineOptimizer
from ulcompress.optimization.progress import refine_visibly

__all__ = ["OnlineOptimizer", "refine_visibly"]
