"""The decoder's noise: the same numbers on every device."""

import numpy as np
import torch
from torch import Tensor


def gaussian_canvas(shape: tuple[int, ...], seed: int) -> Tensor:
    """Draw standard normal noise of any shape, float32 on the CPU, from a counter-based generator (Philox).

    Source: Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011.
    """
    generator = np.random.Generator(np.random.Philox(key=seed))
    return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))
