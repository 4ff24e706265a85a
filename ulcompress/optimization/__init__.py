from ulcompress.optimization.online import OnlineOptimizer

__all__ = ["OnlineOptimizer"]
