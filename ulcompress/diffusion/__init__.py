from ulcompress.diffusion.boundary import BoundaryControl
from ulcompress.diffusion.sampler import DDIM, DiffusersSampler, Sampler
from ulcompress.diffusion.schedule import NoiseSchedule

__all__ = ["DDIM", "BoundaryControl", "DiffusersSampler", "NoiseSchedule", "Sampler"]
