"""The records that parts exchange; every shape and range is written here, once.

Letters: B images, H and W pixels, C channels, h and w a grid that is coarser by a stride, L text tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # so that a file can be inspected without torch
    from torch import Tensor


@dataclass(frozen=True)
class Source:
    """What the encoder may look at, and the decoder never sees."""

    image: Tensor
    """RGB in [0, 1], float32, (B, 3, H, W), padded to the codec's stride."""
    latent: Tensor
    """The autoencoder's latent of the image, (B, C, h, w)."""
    captions: list[str | None]
    """One caption an image; None where there is none."""


@dataclass(frozen=True)
class Condition:
    """What the decoder knows of the image; fields that no conditioner provides are None."""

    spatial: Tensor | None = None
    """Features on a grid that the decoder's own grid is a multiple of, (B, C, h, w)."""
    text: Tensor | None = None
    """Token embeddings, (B, L, C)."""
    text_mask: Tensor | None = None
    """True where a text token counts, (B, L)."""
    text_null: Tensor | None = None
    """Embeddings of the empty caption, all of which count, (B, L', C); what guidance leads away from."""
    base: Tensor | None = None
    """A first reconstruction, RGB in [0, 1], (B, 3, H, W)."""
    syntax: Tensor | None = None
    """One vector an image, (B, C)."""

    @property
    def provided(self) -> set[str]:
        """The names of the fields that are set."""
        return {f.name for f in fields(self) if getattr(self, f.name) is not None}

    def with_(self, **changes: Tensor | None) -> Condition:
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    def of(self, rows: Tensor) -> Condition:
        """Return the condition of the images with these indices, (n,)."""
        return replace(self, **{name: getattr(self, name)[rows] for name in self.provided})


@dataclass(frozen=True)
class HyperSymbols:
    """The symbols of a latent whose probabilities another one tells."""

    latent: Tensor
    """Rounded differences from the means, int32, (B, C, h, w)."""
    hyper: Tensor
    """The hyper-latent, int32, (B, C', h', w')."""

    def to(self, device: Any) -> HyperSymbols:
        """Return a copy on a device."""
        return HyperSymbols(self.latent.to(device), self.hyper.to(device))


@dataclass(frozen=True)
class StagedSymbols:
    """The symbols of features that were quantised in stages."""

    stages: tuple[Tensor, ...]
    """The indices of each stage that is sent, int64, (B, h', w') on its own grid."""
    rows: int
    """Of the features: h."""
    columns: int
    """w."""

    def to(self, device: Any) -> StagedSymbols:
        """Return a copy on a device."""
        return replace(self, stages=tuple(stage.to(device) for stage in self.stages))


@dataclass(frozen=True)
class Quantized:
    """Features after quantisation."""

    features: Tensor
    """What the decoder gets, (B, C, h, w); gradients pass straight through to the encoder."""
    symbols: Any
    """What is coded: integers, (B, ...), or a record of such tensors."""
    bits: Tensor
    """Estimated bits of each image's symbols, (B,)."""
    losses: dict[str, Tensor] = field(default_factory=dict)
    """Scalar terms of the quantiser, commitment for instance."""


@dataclass(frozen=True)
class Code:
    """All that a file holds of one image, before it is turned into bytes."""

    height: int
    """Of the image, in pixels."""
    width: int
    symbols: Any
    """Of the quantiser: a tensor (1, ...) or a record of such tensors; it has `to(device)`."""
    sides: dict[str, Any]
    """Side information by the name of its conditioner; None where a conditioner sends nothing."""


@dataclass(frozen=True)
class Denoised:
    """One training step of a decoder."""

    losses: dict[str, Tensor]
    """Named scalar terms."""
    estimate: Tensor
    """The decoder's estimate of its target at the drawn noise levels, same shape as the target."""


@dataclass(frozen=True)
class CodecOutput:
    """One training step of a codec."""

    losses: dict[str, Tensor]
    """Named scalar terms; `training.CodecModule` weighs them."""
    bits: dict[str, Tensor]
    """Estimated bits by stream, each (B,)."""
    estimate: Tensor
    """The decoder's estimate of the latent, (B, C, h, w)."""
    symbols: Any
    """The quantiser's symbols: a tensor (B, ...) or a record of such tensors."""


@dataclass(frozen=True)
class StreamSpec:
    """How one stream can be read with integer tables alone, so that its size is known without a network."""

    name: str
    """Name of the stream, `text` for instance."""
    table: str | int
    """Name of the tensor that holds the counts of the symbols, relative to the part that returns this record; or the
    number of equally likely symbols."""
    stride: int | None = None
    """A grid of one symbol every `stride` pixels; None for a sequence that the symbol 0 ends."""
    limit: int = 0
    """Longest sequence, the end not counted; a sequence of this length needs no end."""

    def within(self, owner: str) -> StreamSpec:
        """Return a copy for the part that owns the one whose table this is: names of tensors begin with `owner.`."""
        return self if isinstance(self.table, int) else replace(self, table=f"{owner}.{self.table}")
