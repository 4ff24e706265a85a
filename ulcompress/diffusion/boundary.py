"""The boundary condition of the diffusion's differential equation, and the overlapped patches that share it."""

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from ulcompress.diffusion.noise import gaussian_canvas
from ulcompress.functional.division import ceil_div
from ulcompress.part import Part, loadable

WINDOWS = ("linear", "uniform", "gaussian")
NOISES = ("canvas", "shared_tile", "zero")


@loadable(plain=["window", "noise"])
@final
class BoundaryControl(Part):
    """Holds the boundary condition x_T uniform over the whole map, and merges overlapped patches into one map.

        seed ─► x_T of the whole map ─► x_t ─┬─► patch ─► function ─► window ─┐
                                             ├─► patch ─► function ─► window ─┼─► weighted mean ─► map
                                             └─► patch ─► function ─► window ─┘

    Sources: Ma et al., Solving Diffusion ODEs with Optimal Boundary Conditions for Better Image Super-Resolution, ICLR
    2024 (one x_T serves all inputs); Bar-Tal et al., MultiDiffusion, ICML 2023, equation 5 (the merge at every step).
    """

    def __init__(
        self,
        *,
        patch: int,
        overlap: int,
        window: str = "linear",
        noise: str = "canvas",
        scale: float = 1.0,
        seed: int | None = None,
    ):
        """Set patches and noise.

        Args:
            patch: Side of a patch in positions of the map; a map that is no larger is one patch.
            overlap: Overlap of neighbouring patches in positions, less than `patch`.
            window: Weight of a patch's positions: `linear` falls to the border over the overlap, `uniform` is a plain
                mean, `gaussian` has a tenth of the patch as deviation (Mixture of Diffusers, arXiv 2302.02412).
            noise: x_T: `canvas` is drawn for the whole map, `shared_tile` repeats one tile so that patches see the
                same noise whatever the size of the map, `zero` is none.
            scale: Standard deviation of the noise; less than 1 gives samples closer to the mean.
            seed: Seed of the noise of all images, chosen offline (`evaluation.choose_seed`); None takes that of each
                file.

        Raises:
            ValueError: An argument is out of its range or unknown.
        """
        super().__init__()
        if not 0 <= overlap < patch:
            raise ValueError(f"the overlap must be at least 0 and less than the patch of {patch}, got {overlap}")
        if window not in WINDOWS:
            raise ValueError(f"window must be one of {', '.join(WINDOWS)}, got {window!r}")
        if noise not in NOISES:
            raise ValueError(f"noise must be one of {', '.join(NOISES)}, got {noise!r}")
        if scale < 0:
            raise ValueError(f"scale must be at least 0, got {scale}")
        if seed is not None and not 0 <= seed < 2**64:
            raise ValueError(f"seed must be 0 to 2**64 - 1, got {seed}")
        self.patch = patch
        self.overlap = overlap
        self.window = window
        self.noise = noise
        self.scale = scale
        self.seed = seed

    def noise_of(self, shape: tuple[int, int, int, int], seed: int, scale: float | None = None) -> Tensor:
        """Return x_T for a map, float32 on the CPU, the same on every machine.

        Args:
            shape: Shape of the map, (B, C, h, w).
            seed: Seed of the file, used where this part stores none.
            scale: Standard deviation of the noise; None takes that of this part.

        Returns:
            The noise, (B, C, h, w). As `shared_tile` it has the period `patch - overlap` along both sides: all patches
            see the same noise, except the last ones, which are moved inside.
        """
        if self.noise == "zero":
            return torch.zeros(shape)
        seed = seed if self.seed is None else self.seed
        scale = self.scale if scale is None else scale
        if self.noise == "canvas":
            return scale * gaussian_canvas(shape, seed)
        count, channels, height, width = shape
        period = self.patch - self.overlap
        tile = gaussian_canvas((count, channels, period, period), seed)
        repeated = tile.repeat(1, 1, ceil_div(height, period), ceil_div(width, period))
        return scale * repeated[..., :height, :width]

    def merge(self, function: Callable[[slice, slice], Tensor], height: int, width: int) -> Tensor:
        """Evaluate a function of row and column ranges patch by patch and blend the overlaps.

        Args:
            function: Returns the result for a range of rows and one of columns, (B, C, rows, columns).
            height: Rows of the whole map.
            width: Columns of the whole map.

        Returns:
            The whole map, (B, C, height, width): the mean of the patches, weighted by the window.
        """
        tops, lefts = starts(height, self.patch, self.overlap), starts(width, self.patch, self.overlap)
        if len(tops) == len(lefts) == 1:
            return function(slice(0, height), slice(0, width))
        merged = weights = None
        for top in tops:
            for left in lefts:
                rows, columns = slice(top, min(top + self.patch, height)), slice(left, min(left + self.patch, width))
                part = function(rows, columns)
                weight = self._profile(part.shape[-2], part)[:, None] * self._profile(part.shape[-1], part)
                if merged is None or weights is None:
                    merged = weight.new_zeros(*part.shape[:2], height, width)
                    weights = weight.new_zeros(height, width)
                merged[..., rows, columns] += weight * part
                weights[rows, columns] += weight
        assert merged is not None and weights is not None
        return (merged / weights).to(part.dtype)

    def _profile(self, length: int, like: Tensor) -> Tensor:
        """Return the window along one side; its product with the other side's is the window."""
        # In half precision the tails of a Gaussian, the only weights of the map's corners, would be zero.
        dtype = torch.promote_types(like.dtype, torch.float32)
        position = torch.arange(1, length + 1, dtype=dtype, device=like.device)
        if self.window == "uniform":
            return torch.ones_like(position)
        if self.window == "linear":
            return torch.minimum(position, position.flip(0)).clamp(max=self.overlap + 1)
        return (-0.5 * ((position - (length + 1) / 2) / (0.1 * length)).square()).exp()


def starts(length: int, patch: int, overlap: int) -> list[int]:
    """Return the positions at which patches begin along one side; the last one is moved inside a long side."""
    if length <= patch:
        return [0]
    regular = list(range(0, length - patch, patch - overlap))
    return [*regular, length - patch]
