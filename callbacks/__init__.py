"""Observers of a run; one class a file. They import `ulcompress`, never the other way."""

from callbacks.metrics import MetricLogger
from callbacks.moving_average import MovingAverage
from callbacks.rate import RateLogger
from callbacks.reconstructions import ReconstructionGrid
from callbacks.weights_and_biases import WeightsAndBiases

__all__ = ["MetricLogger", "MovingAverage", "RateLogger", "ReconstructionGrid", "WeightsAndBiases"]
