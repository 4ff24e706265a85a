from ulcompress.diffusion.base_estimate import BaseEstimate
from ulcompress.diffusion.boundary import BoundaryControl
from ulcompress.diffusion.estimate import Estimate
from ulcompress.diffusion.linear_estimate import LinearEstimate
from ulcompress.diffusion.objective import Objective
from ulcompress.diffusion.sampler import DDIM, DiffusersSampler, Sampler
from ulcompress.diffusion.schedule import ContinuousSchedule, DiscreteSchedule, Schedule

__all__ = [
    "DDIM",
    "BaseEstimate",
    "BoundaryControl",
    "ContinuousSchedule",
    "DiffusersSampler",
    "DiscreteSchedule",
    "Estimate",
    "LinearEstimate",
    "Objective",
    "Sampler",
    "Schedule",
]
