"""The learned codecs of CompressAI's zoo."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

from ulcompress.autoencoders import PixelSpace
from ulcompress.codec import Codec
from ulcompress.conditioning import SynthesisTransform
from ulcompress.decoders import BaseReconstruction
from ulcompress.encoders import AnalysisTransform
from ulcompress.evaluation.anchors.base import Anchor
from ulcompress.images import to_pil
from ulcompress.learned.catalogue import ZOO
from ulcompress.learned.compressai import CompressAIModel, compressai
from ulcompress.quantizers import StringQuantizer

HEAD = struct.Struct(">BHH")
"""Quality, height and width, which are not in the model's strings."""
KEPT = 4
"""Models that stay in memory: those that a bisection for a similar budget asks for again."""


class ZooAnchor(Anchor):
    """A model of CompressAI's zoo with its published weights, trained for squared error, and its own coder.

    A file is quality and size of the image, 5 bytes, and the strings that the model's coder makes, with their lengths
    and a check, some 4 bytes more.
    """

    def __init__(self, *, name: str, weights: Path | None = None):
        """Take a model by name.

        Args:
            name: One of `learned.catalogue.ZOO`.
            weights: A folder with the files of the zoo under their published names; None downloads them to the cache of
                torch.hub.
        """
        self.name = name
        self.qualities = range(1, 1 + ZOO[name])
        self.weights = weights
        self._loaded = lru_cache(maxsize=KEPT)(self._load)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The version of CompressAI, which decides weights and coder."""
        return {"compressai": version("compressai")}

    def check(self) -> None:
        """Raise ValueError where the weights of the lowest quality are neither here nor to be had."""
        self.prepare(self.qualities[0])

    def prepare(self, quality: int) -> None:
        """Load the model of a quality, with the tables of its coder; ValueError where its weights are missing."""
        self._loaded(quality)

    def encode(self, image: Image.Image, quality: int) -> bytes:
        """Return the file of an RGB image."""
        return HEAD.pack(quality, image.height, image.width) + self._loaded(quality).compress(image, header=False)

    def decode(self, data: bytes) -> Image.Image:
        """Return the RGB image of a file."""
        quality, *size = HEAD.unpack_from(data)
        return to_pil(self._loaded(quality).decompress(data[HEAD.size :], size=(size[0], size[1])))

    def _load(self, quality: int) -> Codec:
        file = None if self.weights is None else str(self.weights / file_name(self.name, quality))
        model = CompressAIModel(name=self.name, quality=quality, weights=file)
        codec = Codec(
            autoencoder=PixelSpace(),
            encoder=AnalysisTransform(model=model),
            quantizer=StringQuantizer(model=model),
            conditioning={"base": SynthesisTransform(model=model)},
            decoder=BaseReconstruction(),
        ).eval()
        _ = codec.fingerprint  # makes the tables
        return codec


def file_name(name: str, quality: int) -> str:
    """Return the name of the file in which the zoo publishes the weights of a model for squared error."""
    return compressai().zoo.image.model_urls[name]["mse"][quality].rpartition("/")[2]
