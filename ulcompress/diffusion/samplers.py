"""The samplers that a user can name when an image is restored."""

from ulcompress.diffusion.ddim import DDIM
from ulcompress.diffusion.dpm_solver import DPMSolver
from ulcompress.diffusion.heun import Heun
from ulcompress.diffusion.sampler import Sampler

SAMPLERS: dict[str, type[Sampler]] = {"ddim": DDIM, "heun": Heun, "dpm-solver": DPMSolver}


def sampler_of(name: str) -> Sampler:
    """Return the sampler of a name; ValueError for an unknown one."""
    if name not in SAMPLERS:
        raise ValueError(f"the sampler must be one of {', '.join(SAMPLERS)}, got {name!r}")
    return SAMPLERS[name]()
