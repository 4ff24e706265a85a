"""Perceptual image compression at ultra-low bitrates, composed of parts that anyone can swap."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ulcompress.codec import Codec
    from ulcompress.coding.bitstream import BitstreamError
    from ulcompress.pretrained import load, save

__version__ = "0.1.0"
__all__ = ["BitstreamError", "Codec", "__version__", "load", "save"]

_HOMES = {"BitstreamError": "coding.bitstream", "Codec": "codec", "load": "pretrained", "save": "pretrained"}


def __getattr__(name: str) -> Any:
    """Import the public names on first use, so that `ulcompress --help` does not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ulcompress' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"ulcompress.{_HOMES[name]}"), name)
