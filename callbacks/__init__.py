"""Observers of a run; one class a file. They import `ulcompress`, never the other way."""

from callbacks.gradient_norm import GradientNorm
from callbacks.memory import Memory
from callbacks.metrics import MetricLogger
from callbacks.moving_average import MovingAverage
from callbacks.rate import RateLogger
from callbacks.reconstructions import ReconstructionGrid
from callbacks.throughput import Throughput
from callbacks.weights_and_biases import WeightsAndBiases

__all__ = [
    "GradientNorm",
    "Memory",
    "MetricLogger",
    "MovingAverage",
    "RateLogger",
    "ReconstructionGrid",
    "Throughput",
    "WeightsAndBiases",
]
