"""The energy of texture that the base reconstruction lacks, as the summary of an image."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ulcompress.conditioning.summary import Summary, with_base
from ulcompress.part import loadable

BLOCK = 16
"""Side in pixels of the blocks in which energy is measured; the coarsest of the bands has one position a block."""
BANDS = 4
"""Most bands that a block holds: differences from means over 2, 4, 8 and 16 pixels."""
FLOOR = 1 / 255**2
"""Energy below which nothing is seen: that of a step of 8 bits."""


@loadable()
class TextureEnergy(Summary):
    """Compares the energies of an image's bands with those of the base, where the base is quiet and where it is not.

        image ─► luminance ─► bands of an octave ─► energy of blocks ─► mean of a class ─┐
        base  ─► luminance ─► bands of an octave ─► energy of blocks ─► mean of a class ─┴─► log2 of the ratio
                                                          └─► classes of equally many blocks, quietest first

    Nothing is learnt: a number says how much texture is missing, in a band and in the blocks that look alike to the
    decoder. A base of few bits smooths grass as it smooths sky; this tells them apart. The classes are of the encoder
    alone, no file depends on them. CGDM (Kuang et al., ACM MM 2024) does not publish what its syntax tells; this is a
    choice of this package.
    """

    sees_base = True

    def __init__(self, *, bands: int = BANDS, classes: int = 3, resolution: float = 2.0):
        """Set what is told.

        Args:
            bands: Octaves, finest first.
            classes: Classes of blocks, by the energy of the base in the band.
            resolution: By how much a number grows where the energy doubles; the syntax rounds numbers to integers.

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
        """Map images and bases in [0, 1], (B, 3, H, W), to the ratios of energies, (B, bands * classes).

        Raises:
            ValueError: There is no base.
        """
        pair = zip(*(self._energies(each) for each in with_base(image, base)), strict=True)
        ratios = [self._ratios(energy, energy_of_base) for energy, energy_of_base in pair]
        return self.resolution * torch.cat(ratios, 1)

    def _energies(self, image: Tensor) -> list[Tensor]:
        """Return the energies of each band in each block, (B, n), finest band first."""
        luminance, energies = image.mean(1, keepdim=True), []
        for band in range(self.bands):
            coarser = _means(luminance, 2)
            rows, columns = luminance.shape[-2:]
            detail = luminance - F.interpolate(coarser, scale_factor=2)[..., :rows, :columns]
            energies.append(_means(detail.square(), BLOCK >> band).flatten(1))
            luminance = coarser
        return energies

    def _ratios(self, energy: Tensor, energy_of_base: Tensor) -> Tensor:
        """Return log2 of the ratios of mean energies, (B, classes), from those of blocks, (B, n)."""
        order = energy_of_base.argsort(1)
        # Not `chunk`, which makes fewer classes than asked for where there are few blocks.
        classes = torch.arange(order.shape[1], device=order.device) * self.classes // order.shape[1]
        totals = [
            torch.zeros(len(order), self.classes).to(each).index_add(1, classes, each.gather(1, order) + FLOOR)
            for each in (energy, energy_of_base)
        ]
        return torch.log2(totals[0].clamp_min(FLOOR) / totals[1].clamp_min(FLOOR))


def _means(values: Tensor, side: int) -> Tensor:
    """Return the means over squares, of those at the border over what there is."""
    return F.avg_pool2d(values, side, ceil_mode=True, count_include_pad=False)
