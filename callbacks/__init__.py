"""Observers of a run; one class a file. They import `ulcompress`, never the other way."""

from callbacks.rate import RateLogger
from callbacks.reconstructions import ReconstructionGrid

__all__ = ["RateLogger", "ReconstructionGrid"]
