"""Observers of a run; one class a file. They import `ulcompress`, never the other way."""

from callbacks.metrics import MetricLogger
from callbacks.moving_average import MovingAverage
from callbacks.rate import RateLogger
from callbacks.reconstructions import ReconstructionGrid

__all__ = ["MetricLogger", "MovingAverage", "RateLogger", "ReconstructionGrid"]
