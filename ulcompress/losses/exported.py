"""Networks from files, by whose feature maps images are compared: as data, or as torch.export saves them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from ulcompress.losses.layers import LayerNetwork
from ulcompress.losses.map_distance import MapDistance

SMALLEST = 64
"""Side in pixels of the smallest images that such a network has to take: with torch.export no map may shrink to 1."""
SIZES = ((3, 97, 131), (1, SMALLEST, 80))
"""Number, height and width of the images on which a network is tried, unlike those that it was exported with."""
PROGRAM = ".pt2"
"""Suffix of the files that torch.export saves, which can hold code."""


def load_maps(path: str | Path, *, trust: bool = False) -> nn.Module:
    """Return a network that maps RGB in [0, 1], (B, 3, H, W), to feature maps, (B, C, h, w) each.

    Args:
        path: A safetensors file as `losses.layers` writes it, which is data alone, or a .pt2.
        trust: Read a .pt2, although it can hold code that runs.

    Raises:
        ValueError: It is not there, is a .pt2 that is not trusted, or not a network for images of every number and
            size.
    """
    if not Path(path).is_file():
        raise ValueError(f"no file {str(path)!r}; give a network as experiments/networks.py writes it, or a .pt2")
    if Path(path).suffix != PROGRAM:
        return _usable(path, LayerNetwork, "get it again, or write it by experiments/networks.py")
    if not trust:
        raise ValueError(
            f"{path} can hold code that would run now; if you trust it say so by --trust-networks, or trust: true in "
            "an experiment, else take a network in safetensors, as experiments/networks.py writes it"
        )
    return _usable(
        path,
        ExportedMaps,
        f"export it in evaluation mode, for any number and size of images of at least {SMALLEST} pixels",
    )


def _usable(path: str | Path, read: Callable[[str | Path], nn.Module], advice: str) -> nn.Module:
    """Read a network and try it; ValueError with an advice for whatever it does then."""
    try:
        maps = read(path)
        generator = torch.Generator().manual_seed(0)
        for count, *size in SIZES:
            brightness = torch.linspace(0.3, 1, count)[:, None, None, None]
            _check(maps, brightness * torch.rand(count, 3, *size, generator=generator))
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path} cannot be used as a backbone; {advice} ({reason})") from error
    return maps


class ExportedMaps(nn.Module):
    """A network that maps RGB in [0, 1], (B, 3, H, W), to one feature map or several, (B, C, h, w) each.

    It stays in the mode in which it was exported, its weights fixed, and goes where its images are. Such a file can
    hold code, which runs when it is read. It cannot be pickled.
    """

    def __init__(self, path: str | Path):
        """Read the .pt2 file, and whatever is in it; `load_maps` is for files that may be anything."""
        super().__init__()
        self._program = torch.export.load(path)
        self._mixes = True
        self._go_to(torch.device("cpu"))
        self._mixes = _runs_in_mixed_precision(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps, the last one what is pooled for distances between sets."""
        if images.device != self._device:
            self._go_to(images.device)
        # A network with casts of its own insists, once exported, on the precision that it was exported in.
        mixed = self._mixes and torch.is_autocast_enabled(images.device.type)
        with torch.autocast(images.device.type, enabled=mixed):
            maps = self._network[0](images if mixed else images.float())
        return [maps] if isinstance(maps, Tensor) else list(maps.values() if isinstance(maps, Mapping) else maps)

    @torch.inference_mode(False)  # weights that are moved in an evaluation serve trainings too
    def _go_to(self, device: torch.device) -> None:
        self._program = move_to_device_pass(self._program, str(device))
        # In a list, out of sight: such a module can change neither its mode nor the device of its constants.
        self._network = [self._program.module().requires_grad_(False)]
        self._device = device


@torch.no_grad()
def _check(maps: nn.Module, images: Tensor) -> None:
    """Raise ValueError where a network gives no maps, or an image others in company than alone."""
    together, alone = maps(images), maps(images[-1:])
    if not together or any(not isinstance(each, Tensor) or each.ndim != 4 for each in together):
        shapes = ", ".join(str(tuple(getattr(each, "shape", ()))) for each in together)
        raise ValueError(f"it gives {shapes or 'nothing'}, not maps (B, C, h, w)")
    for one, other in zip(together, alone, strict=True):
        if not torch.allclose(one[-1:], other, rtol=1e-2, atol=1e-2 * float(other.abs().max())):
            raise ValueError("it gives an image other maps in a batch than alone")


@torch.no_grad()
def _runs_in_mixed_precision(maps: ExportedMaps) -> bool:
    try:
        with torch.autocast("cpu", torch.bfloat16):
            maps(torch.zeros(1, 3, SMALLEST, SMALLEST))
    except RuntimeError:
        return False
    return True


class ExportedDistance(MapDistance):
    """The distance on all maps that a network from a file returns."""

    def __init__(self, *, file: str, trust: bool = False, texture: float = 0.0, shift: int = 0):
        """Read the network.

        Args:
            file: As `load_maps` takes it; the network takes RGB in [0, 1], (B, 3, H, W), of at least 64 pixels.
            trust: Read also a .pt2, although it can hold code that runs.
            texture: As in `MapDistance`.
            shift: As in `MapDistance`.

        Raises:
            ValueError: The file is not there, not trusted or no such network, or `texture` or `shift` is negative.
        """
        super().__init__(network=Path(file).stem, smallest=SMALLEST, texture=texture, shift=shift)
        self.network = load_maps(file, trust=trust)
        self.freeze()

    def evaluate(self, images: Tensor) -> list[Tensor]:
        """Return the network's maps."""
        return self.network(images)
