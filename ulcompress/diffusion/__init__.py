from typing import TYPE_CHECKING

from ulcompress.functional.lazy import lazy_exports

if TYPE_CHECKING:
    from ulcompress.diffusion.base_estimate import BaseEstimate
    from ulcompress.diffusion.boundary import BoundaryControl
    from ulcompress.diffusion.continuous_schedule import ContinuousSchedule
    from ulcompress.diffusion.ddim import DDIM
    from ulcompress.diffusion.diffusers_sampler import DiffusersSampler
    from ulcompress.diffusion.discrete_schedule import DiscreteSchedule
    from ulcompress.diffusion.dpm_solver import DPMSolver
    from ulcompress.diffusion.estimate import Estimate
    from ulcompress.diffusion.heun import Heun
    from ulcompress.diffusion.linear_estimate import LinearEstimate
    from ulcompress.diffusion.local_deviation import LocalDeviation
    from ulcompress.diffusion.objective import Objective
    from ulcompress.diffusion.sampler import Sampler
    from ulcompress.diffusion.schedule import Schedule
    from ulcompress.diffusion.whitening import Whitening

__all__ = [
    "DDIM",
    "BaseEstimate",
    "BoundaryControl",
    "ContinuousSchedule",
    "DPMSolver",
    "DiffusersSampler",
    "DiscreteSchedule",
    "Estimate",
    "Heun",
    "LinearEstimate",
    "LocalDeviation",
    "Objective",
    "Sampler",
    "Schedule",
    "Whitening",
]
__getattr__, __dir__ = lazy_exports(
    __name__,
    DDIM="ddim",
    BaseEstimate="base_estimate",
    BoundaryControl="boundary",
    ContinuousSchedule="continuous_schedule",
    DPMSolver="dpm_solver",
    DiffusersSampler="diffusers_sampler",
    DiscreteSchedule="discrete_schedule",
    Estimate="estimate",
    Heun="heun",
    LinearEstimate="linear_estimate",
    LocalDeviation="local_deviation",
    Objective="objective",
    Sampler="sampler",
    Schedule="schedule",
    Whitening="whitening",
)
