"""The loss with which a codec is trained."""

from collections.abc import Iterator
from typing import ClassVar, final

from torch import Tensor
from torch.nn.functional import avg_pool2d

from ulcompress.codec import Codec
from ulcompress.part import loadable
from ulcompress.records import CodecOutput
from ulcompress.training.loss import StageLoss

SQUARED_ERRORS = ("squared_error", "blurred_error")
"""The terms on images that need no network: of pixels, and of means over blocks."""


@loadable(plain=["weights", "delays"])
@final
class CodecLoss(StageLoss):
    """Weighs the terms of a codec's parts, the rates of its streams, and terms on the decoded estimate.

    A rate, `rate/<stream>` in bpp, is only logged where it has no weight, and so are, where another term on images is
    taken, `squared_error`, of the decoded estimate, and `blurred_error`, of means over blocks of `BLOCK` pixels. The
    latter holds brightness and colour, which features of unit length do not see, and leaves texture to a perceptual
    distance. A weight of a stream that the codec does not have counts for nothing, so that an ablation can leave it
    out. A rate that counts from the first step on empties its stream before the decoder has learnt to use it: delay it.
    Terms on images have their gradient through the autoencoder's decoder.
    """

    BLOCK: ClassVar[int] = 16
    """Side in pixels of the blocks of `blurred_error`."""
    DEFAULTS: ClassVar = {
        "diffusion": 1.0,
        "commitment": 0.0,
        "squared_error": 0.0,
        "blurred_error": 0.0,
        "perceptual": 1.0,
        "adversarial": 0.1,
    }

    def forward(self, codec: Codec, images: Tensor, output: CodecOutput) -> dict[str, Tensor]:
        """Return all terms of a batch of images, (B, 3, H, W) in [0, 1], by name."""
        pixels = images[0, 0].numel()
        rates = {f"rate/{name}": bits.mean().to(images.device) / pixels for name, bits in output.bits.items()}
        return {**output.losses, **rates, **self._decoded_terms(codec, images, output.estimate)}

    def _decoded_terms(self, codec: Codec, images: Tensor, estimate: Tensor) -> dict[str, Tensor]:
        if not self._decodes:
            return {}
        restored, images = codec.autoencoder.decode(estimate[: self.images]), images[: self.images]
        return {**self._squared_errors(restored - images), **self.image_terms(restored, images)}

    def _squared_errors(self, error: Tensor) -> dict[str, Tensor]:
        means = avg_pool2d(error, self.BLOCK, ceil_mode=True, count_include_pad=False)
        return {"squared_error": error.square().mean(), "blurred_error": means.square().mean()}

    @property
    def _decodes(self) -> bool:
        return self.perceptual is not None or self.adversarial is not None or any(map(self.weights.get, SQUARED_ERRORS))

    def weight(self, name: str, step: int) -> float:
        """Return the weight of a term at an optimiser step; a rate without one has the weight 0."""
        return 0.0 if _is_rate(name) and name not in self.weights else super().weight(name, step)

    def is_optional(self, name: str) -> bool:
        """Return whether a weight may be given to a term that there is not: a stream's rate, or one with a default."""
        return _is_rate(name) or super().is_optional(name)

    def check(self, codec: Codec) -> None:
        """Raise ValueError where a weight is of no term, or a trained entropy model could learn nothing."""
        rates = [f"rate/{name}" for name in ("spatial", *codec.conditioners)]
        self.check_names({*codec.loss_terms, *rates, *(SQUARED_ERRORS if self._decodes else [])})
        for slot, rate in _learning_from_rates(codec):
            if not self.weights.get(rate):
                raise ValueError(
                    f"the entropy model of `{slot}` learns from the rate alone, which has no weight; set `{rate}` in "
                    "`loss.weights`, to 2 for instance, or list what is not to learn under `freezing.frozen`"
                )


def _is_rate(name: str) -> bool:
    return name.startswith("rate/")


def _learning_from_rates(codec: Codec) -> Iterator[tuple[str, str]]:
    """Yield the slots with parameters that only a rate trains, and the name of that rate."""
    parts = [("quantizer", "rate/spatial", codec.quantizer)]
    parts += [(f"conditioning.{name}", f"rate/{name}", part) for name, part in codec.conditioners.items()]
    for slot, rate, part in parts:
        if any(parameter.requires_grad for parameter in part.learns_from_rate()):
            yield slot, rate
