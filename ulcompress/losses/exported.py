"""Networks whose feature maps compare images, read from safetensors, which are data alone, or torch.export's .pt2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from ulcompress.losses.layers import LayerNetwork
from ulcompress.losses.map_distance import MapDistance

SMALLEST = 64
"""Side in pixels of the smallest images that a network must accept: torch.export allows no map to shrink to side 1."""
SIZES = ((3, 97, 131), (1, SMALLEST, 80))
"""Number, height and width of the images on which a network is tried, other than those of its export."""
PROGRAM = ".pt2"
"""Suffix of the files that torch.export saves, which can hold code."""


def load_maps(path: str | Path, *, trust: bool = False) -> nn.Module:
    """Return a network that maps RGB in [0, 1], (B, 3, H, W), to feature maps, (B, C, h, w) each.

    Args:
        path: A safetensors file as `losses.layers` writes it, which is data alone, or a .pt2.
        trust: Read a .pt2, although it can hold code, which then runs.

    Raises:
        ValueError: The file is missing, is a .pt2 that is not trusted, or holds no network for images in any number and
            of any size.
    """
    if not Path(path).is_file():
        raise ValueError(f"no file {str(path)!r}; give a network as experiments/networks.py writes it, or a .pt2")
    if Path(path).suffix != PROGRAM:
        return _usable(path, LayerNetwork, "get it again, or write it by experiments/networks.py")
    if not trust:
        raise ValueError(
            f"{path} can hold code that would run now; if you trust it, add --trust-networks, or trust: true in an "
            "experiment; else take a network in safetensors, as experiments/networks.py writes it"
        )
    return _usable(
        path,
        ExportedMaps,
        f"export it in evaluation mode, for any number and size of images of at least {SMALLEST} pixels",
    )


def _usable(path: str | Path, read: Callable[[str | Path], nn.Module], advice: str) -> nn.Module:
    """Return the network that `read` returns after trying it; any exception becomes a ValueError with the advice."""
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

    It stays in the mode in which it was exported, its weights are frozen, and it moves to the device of its images. Its
    file can hold code, which runs when it is read. It cannot be pickled.
    """

    def __init__(self, path: str | Path):
        """Read the .pt2 file without a check; `load_maps` checks that it holds such a network."""
        super().__init__()
        self._program = torch.export.load(path)
        self._mixes = True
        self._go_to(torch.device("cpu"))
        self._mixes = _runs_in_mixed_precision(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps; the last one is pooled for distances between sets of images."""
        if images.device != self._device:
            self._go_to(images.device)
        # A network that casts tensors itself runs, once exported, in the precision of its export alone.
        mixed = self._mixes and torch.is_autocast_enabled(images.device.type)
        with torch.autocast(images.device.type, enabled=mixed):
            maps = self._network[0](images if mixed else images.float())
        return [maps] if isinstance(maps, Tensor) else list(maps.values() if isinstance(maps, Mapping) else maps)

    @torch.inference_mode(False)  # weights that are moved during evaluation are used in training too
    def _go_to(self, device: torch.device) -> None:
        self._program = move_to_device_pass(self._program, str(device))
        # In a list it is no registered submodule: an exported module can change neither its mode nor its device.
        self._network = [self._program.module().requires_grad_(False)]
        self._device = device


@torch.no_grad()
def _check(maps: nn.Module, images: Tensor) -> None:
    """Raise ValueError where a network returns no maps, or other maps for an image in a batch than alone."""
    together, alone = maps(images), maps(images[-1:])
    if not together or any(not isinstance(each, Tensor) or each.ndim != 4 for each in together):
        shapes = ", ".join(str(tuple(getattr(each, "shape", ()))) for each in together)
        raise ValueError(f"it returns {shapes or 'nothing'}, not maps (B, C, h, w)")
    for one, other in zip(together, alone, strict=True):
        if not torch.allclose(one[-1:], other, rtol=1e-2, atol=1e-2 * float(other.abs().max())):
            raise ValueError("for one image it returns other maps in a batch than alone")


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
            file: File for `load_maps`; its network takes RGB in [0, 1], (B, 3, H, W), of at least 64 pixels a side.
            trust: Read also a .pt2, although it can hold code, which then runs.
            texture: As in `MapDistance`.
            shift: As in `MapDistance`.

        Raises:
            ValueError: The file is missing, not trusted or no such network, or `texture` or `shift` is negative.
        """
        super().__init__(network=Path(file).stem, smallest=SMALLEST, texture=texture, shift=shift)
        self.network = load_maps(file, trust=trust)
        self.freeze()

    def evaluate(self, images: Tensor) -> list[Tensor]:
        """Return the network's maps."""
        return self.network(images)
