"""The learned codecs of CompressAI's zoo."""

from __future__ import annotations

from functools import lru_cache

from PIL import Image

from ulcompress.autoencoders import PixelSpace
from ulcompress.codec import Codec
from ulcompress.conditioning import SynthesisTransform
from ulcompress.decoders import BaseReconstruction
from ulcompress.encoders import AnalysisTransform
from ulcompress.evaluation.anchors.base import Anchor
from ulcompress.hyperprior import CompressAIModel
from ulcompress.images import to_pil
from ulcompress.quantizers import StringQuantizer

QUALITIES = {"cheng2020-anchor": 6, "cheng2020-attn": 6}
"""Highest quality of the models that have fewer than eight."""


class ZooAnchor(Anchor):
    """A model of CompressAI's zoo with its published weights, trained for squared error, and its own coder.

    Its strings are in a .ulc file, whose header of 10 bytes counts as that of every other format does.
    """

    def __init__(self, *, name: str, highest: int | None = None):
        """Take a model of `CompressAIModel` by name, with qualities up to the highest that the zoo has."""
        self.name = name
        self.qualities = range(1, 1 + (highest or QUALITIES.get(name, 8)))

    def check(self) -> None:
        """Raise ValueError where the weights are neither here nor to be had."""
        self.codec(self.qualities[0])

    def codec(self, quality: int) -> Codec:
        """Return the model of a quality as a codec of ours."""
        return _codec(self.name, quality)

    def encode(self, image: Image.Image, quality: int) -> bytes:
        """Return the file of an RGB image, its quality in front, which the strings do not tell."""
        return bytes([quality]) + self.codec(quality).compress(image)

    def decode(self, data: bytes) -> Image.Image:
        """Return the RGB image of a file."""
        return to_pil(self.codec(data[0]).decompress(data[1:]))


@lru_cache(maxsize=8)
def _codec(name: str, quality: int) -> Codec:
    model = CompressAIModel(name=name, quality=quality)
    return Codec(
        autoencoder=PixelSpace(),
        encoder=AnalysisTransform(model=model),
        quantizer=StringQuantizer(model=model),
        conditioning={"base": SynthesisTransform(model=model)},
        decoder=BaseReconstruction(),
    ).eval()
