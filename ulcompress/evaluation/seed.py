"""The boundary condition of a codec, chosen offline."""

from collections.abc import Callable, Sequence

import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from torch import Tensor

from ulcompress.codec import Codec
from ulcompress.diffusion import BoundaryControl
from ulcompress.functional.limits import MAX_PIXELS
from ulcompress.pretrained import build
from ulcompress.records import Sampling

Distance = Callable[[Tensor, Tensor], Tensor]
"""Compares restored images with their originals, both (B, 3, H, W) in [0, 1]; less is closer."""


def choose_seed(
    codec: Codec,
    images: Sequence[Tensor],
    candidates: Sequence[int],
    distance: Distance,
    *,
    sampling: Sampling | None = None,
    max_pixels: int = MAX_PIXELS,
) -> int:
    """Return the seed of the noise with which the images of a reference set are restored best, under a progress bar.

    An x_T that is good for some images is good for others (Ma et al., Solving Diffusion ODEs with Optimal Boundary
    Conditions for Better Image Super-Resolution, ICLR 2024, section 3.3). One seed draws different canvases for images
    of different sizes; with the `shared_tile` of `BoundaryControl` it gives all of them the same noise.

    Args:
        codec: Ready for use, as `ulcompress.load` returns it; a seed that it has does not count.
        images: RGB in [0, 1], each (3, H, W).
        candidates: Seeds to try; of equally good ones the first is taken.
        distance: A `losses.PerceptualDistance`, or any function of two batches.
        sampling: How the decoder samples, but for the seed; None for its defaults.
        max_pixels: Most pixels of an image.

    Raises:
        ValueError: There is nothing to choose from, or the decoder takes no noise.
    """
    if not images or not candidates:
        raise ValueError(f"got {len(images)} images and {len(candidates)} candidates; give at least one of each")
    boundary = _boundary_of(codec)
    if boundary.noise == "zero":
        raise ValueError("the decoder's boundary has the noise `zero`, for which every seed is the same")
    totals = torch.zeros(len(candidates), dtype=torch.float64)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    stored, boundary.seed = boundary.seed, None
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress, torch.inference_mode():
            task = progress.add_task("Choosing", total=len(images) * len(candidates))
            for image in images:
                code = codec.encode(image, max_pixels=max_pixels)
                for index, seed in enumerate(candidates):
                    restored = codec.decode(code, sampling, seed=seed)
                    totals[index] += distance(restored[None], image[None]).mean()
                    progress.advance(task)
    finally:
        boundary.seed = stored
    return candidates[int(totals.argmin())]


def with_seed(codec: Codec, seed: int) -> Codec:
    """Return a codec of the same weights that restores all images from the noise of this seed."""
    config = codec.arguments()
    config["decoder"]["init_args"]["boundary"] = _boundary_of(codec).arguments() | {"seed": seed}
    packages = {type(part).__module__.partition(".")[0] for part in codec.modules()}
    seeded = build(config, trust=packages)  # all of it is in use already
    seeded.load_state_dict(codec.state_dict())
    return seeded.eval()


def _boundary_of(codec: Codec) -> BoundaryControl:
    boundary = getattr(codec.decoder, "boundary", None)
    if not isinstance(boundary, BoundaryControl):
        raise ValueError(f"{type(codec.decoder).__name__} has no boundary, so no seed to choose")
    return boundary
