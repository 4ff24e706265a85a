"""Codec directories, `config.yaml`, `model.safetensors` and a model card: saved, loaded, found."""

from ulcompress.pretrained.checkpoint import FILE_DIGEST, FINGERPRINT, read_checkpoint
from ulcompress.pretrained.directory import FILES, metadata
from ulcompress.pretrained.loading import build, load, load_weights
from ulcompress.pretrained.location import BUNDLED, bundled_codecs, find, imported_codecs, locate, remember
from ulcompress.pretrained.saving import export, save

__all__ = [
    "BUNDLED",
    "FILES",
    "FILE_DIGEST",
    "FINGERPRINT",
    "build",
    "bundled_codecs",
    "export",
    "find",
    "imported_codecs",
    "load",
    "load_weights",
    "locate",
    "metadata",
    "read_checkpoint",
    "remember",
    "save",
]
