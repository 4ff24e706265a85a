"""All parts of ulcompress, which configurations can name by their class alone once they are imported."""

from importlib import import_module
from pkgutil import iter_modules

ROOMS = (
    *("autoencoders", "encoders", "quantizers", "entropy", "conditioning", "denoisers", "decoders", "diffusion"),
    *("losses", "learned", "captioning"),
)
"""Packages of parts, in ulcompress."""


def import_parts() -> None:
    """Import every module of the packages of parts."""
    for room in ROOMS:
        package = f"ulcompress.{room}"
        for module in iter_modules(import_module(package).__path__, f"{package}."):
            import_module(module.name)
