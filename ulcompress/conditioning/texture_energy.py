"""The energy of texture that the base reconstruction lacks, as the summary of an image."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ulcompress.conditioning.summary import Summary, with_base
from ulcompress.part import loadable

BLOCK = 16
"""Side in pixels of the blocks in which energy is measured: that of the coarsest means."""
BANDS = 4
"""Most bands: differences between means over 1 and 2, 2 and 4, 4 and 8, 8 and 16 pixels (a Haar pyramid)."""
FLOOR = 1 / 255**2
"""Added to the energy of each block, so that differences below a step of 8 bits hardly count."""


@loadable()
class TextureEnergy(Summary):
    """Compares the energies of an image's bands with those of the base, where the base is quiet and where it is not.

        image ─► mean of RGB ─► bands of an octave ─► energy of blocks ─► mean of a class ─┐
        base  ─► mean of RGB ─► bands of an octave ─► energy of blocks ─► mean of a class ─┴─► log2 of the ratio
                                                            └─► classes of equally many blocks, quietest first

    Nothing is learnt. Each number tells, for one band and one class of blocks, how much more energy the image has than
    its base: where the base is equally smooth, sky and grass differ. The encoder alone forms the classes, so no file
    depends on them. What the syntax of CGDM (Kuang et al., ACM MM 2024) tells is not published; this is a choice of
    this package.
    """

    sees_base = True

    def __init__(self, *, bands: int = BANDS, classes: int = 3, resolution: float = 2.0):
        """Set bands, classes and resolution.

        Args:
            bands: Octaves, finest first.
            classes: Classes of blocks, by the energy of the base in the band.
            resolution: By how much a number grows where the ratio doubles. NeuralSyntax bounds numbers by its levels,
                which compresses those above half of them, and rounds.

        Raises:
            ValueError: An argument is out of its range.
        """
        super().__init__()
        if not 1 <= bands <= BANDS or classes < 1 or resolution <= 0:
            raise ValueError(
                f"got bands={bands}, classes={classes} and resolution={resolution}; give 1 to {BANDS} bands, at least "
                "one class and a resolution above 0"
            )
        self.bands = bands
        self.classes = classes
        self.resolution = resolution
        self.dimension = bands * classes

    @classmethod
    def nominal_dimension(cls, arguments: Mapping[str, Any]) -> int:
        """Return a number for each band and class."""
        return arguments["bands"] * arguments["classes"]

    @torch.no_grad()
    def forward(self, image: Tensor, base: Tensor | None = None) -> Tensor:
        """Map images and bases in [0, 1], (B, 3, H, W), to `resolution` * log2 of ratios, (B, bands * classes).

        Raises:
            ValueError: There is no base.
        """
        pair = zip(*(self._energies(each) for each in with_base(image, base)), strict=True)
        ratios = [self._ratios(energy, energy_of_base) for energy, energy_of_base in pair]
        return self.resolution * torch.cat(ratios, 1)

    def _energies(self, image: Tensor) -> list[Tensor]:
        """Return the energies of each band in each block, (B, n), finest band first."""
        grey, energies = image.mean(1, keepdim=True), []
        for band in range(self.bands):
            coarser = _means(grey, 2)
            rows, columns = grey.shape[-2:]
            detail = grey - F.interpolate(coarser, scale_factor=2)[..., :rows, :columns]
            energies.append(_means(detail.square(), BLOCK >> band).flatten(1))
            grey = coarser
        return energies

    def _ratios(self, energy: Tensor, energy_of_base: Tensor) -> Tensor:
        """Return log2 of the ratios of mean energies, (B, classes), from those of blocks, (B, n)."""
        order = energy_of_base.argsort(dim=1, stable=True)
        # A class is empty, and tells 0, where there are fewer blocks than classes.
        energies, energies_of_base = (
            torch.stack([part.sum(1) for part in (each.gather(1, order) + FLOOR).tensor_split(self.classes, 1)], 1)
            for each in (energy, energy_of_base)
        )
        return torch.log2(energies.clamp_min(FLOOR) / energies_of_base.clamp_min(FLOOR))


def _means(values: Tensor, side: int) -> Tensor:
    """Return the means over squares, of those at the border over what there is."""
    return F.avg_pool2d(values, side, ceil_mode=True, count_include_pad=False)
