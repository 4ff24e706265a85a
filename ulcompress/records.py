"""The records that parts exchange; every shape and range is written here, once.

Letters: B images, H and W pixels, C channels, h and w a grid that is coarser by a stride, L text tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
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
    """One caption for each image, or None."""


@dataclass(frozen=True)
class Condition:
    """What the decoder knows of the image, field by field; a field that no conditioner provides is None.

    The fields below are those of the parts that come with the package. A conditioner from elsewhere may provide others
    by any name, `edges` for instance. The shape of its tensor says of which kind it is: a map (B, C, h, w), a vector
    (B, C) or tokens (B, L, C).
    """

    spatial: Tensor | None = None
    """Features on a grid whose multiple is the grid of the decoder, (B, C, h, w)."""
    text: Tensor | None = None
    """Token embeddings, (B, L, C)."""
    text_mask: Tensor | None = None
    """True where a text token counts, (B, L)."""
    text_null: Tensor | None = None
    """Embeddings of the empty caption, none of them masked, (B, L', C); guidance leads away from these."""
    base: Tensor | None = None
    """A first reconstruction, RGB in [0, 1], (B, 3, H, W)."""
    syntax: Tensor | None = None
    """One vector an image, (B, C)."""
    estimate: Tensor | None = None
    """What the decoder knows of its target before it starts, (B, C, h, w); set by the decoder itself."""
    others: Mapping[str, Tensor] = field(default_factory=dict)
    """Fields of other names."""

    @property
    def provided(self) -> set[str]:
        """The names of the fields that are set."""
        return {name for name in WELL_KNOWN if getattr(self, name) is not None} | set(self.others)

    def __getitem__(self, name: str) -> Tensor | None:
        """Return a field by its name; None where it is not set."""
        return getattr(self, name) if name in WELL_KNOWN else self.others.get(name)

    @property
    def device(self) -> Any:
        """The device that its tensors are on."""
        return next(value.device for name in self.provided if (value := self[name]) is not None)

    @property
    def maps(self) -> dict[str, Tensor]:
        """The fields that are maps, (B, C, h, w), by name."""
        values = {name: self[name] for name in self.provided}
        return {name: value for name, value in values.items() if value is not None and value.ndim == 4}

    def crop(self, rows: slice, columns: slice) -> Condition:
        """Return a copy whose maps, which are all on one grid, are cropped to these rows and columns."""
        return self.with_(**{name: value[..., rows, columns] for name, value in self.maps.items()})

    def with_(self, **changes: Tensor | None) -> Condition:
        """Return a copy with some fields changed; None removes one."""
        known = {name: value for name, value in changes.items() if name in WELL_KNOWN}
        others = {name: value for name, value in {**self.others, **changes}.items() if name not in WELL_KNOWN}
        return replace(self, **known, others={name: value for name, value in others.items() if value is not None})

    def of(self, rows: Tensor) -> Condition:
        """Return the condition of the images with these indices, (n,)."""
        values = {name: self[name] for name in self.provided}
        return self.with_(**{name: value[rows] for name, value in values.items() if value is not None})


WELL_KNOWN = frozenset(f.name for f in fields(Condition)) - {"others"}
"""The fields of a condition that have a name here."""


@dataclass(frozen=True)
class HyperSymbols:
    """The symbols of a latent and of the hyper-latent that predicts its probabilities."""

    latent: Tensor
    """Rounded differences from the means, int32, (B, C, h, w)."""
    hyper: Tensor
    """The hyper-latent, int32, (B, C', h', w')."""

    def to(self, device: Any) -> HyperSymbols:
        """Return a copy on a device."""
        return HyperSymbols(self.latent.to(device), self.hyper.to(device))


@dataclass(frozen=True)
class ResidualIndices:
    """Codebook indices of residual quantisation, one tensor a stage."""

    indices: tuple[Tensor, ...]
    """The indices of each stage that is sent, int64, (B, h', w') on the grid of the stage."""
    rows: int
    """Rows of the features, h."""
    columns: int
    """Columns of the features, w."""

    def to(self, device: Any) -> ResidualIndices:
        """Return a copy on a device."""
        return replace(self, indices=tuple(stage.to(device) for stage in self.indices))


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
    """Height of the image in pixels."""
    width: int
    """Width of the image in pixels."""
    symbols: Any
    """Symbols of the quantiser: a tensor (1, ...) or a record of such tensors; it has `to(device)`."""
    sides: dict[str, Any]
    """Side information by the name of its conditioner; None where a conditioner sends nothing."""


@dataclass(frozen=True)
class Sampling:
    """How a decoder samples; None takes the decoder's default."""

    steps: int | None = None
    """Number of sampling steps."""
    guidance: float | None = None
    """Guidance scale of the text; 1 is no guidance."""
    noise_scale: float | None = None
    """Standard deviation of the initial noise: less than 1 gives samples closer to the mean, 0 takes no noise."""
    start: float | None = None
    """Share of the process at which sampling starts, more than 0 to 1."""
    sampler: str | None = None
    """Name of the solver: `ddim`, `heun` or `dpm-solver`."""
    seed: int | None = None
    """Seed of the noise; None takes that of the file."""

    def __post_init__(self):
        """Raise ValueError for numbers that no decoder takes."""
        if self.steps is not None and self.steps < 0:
            raise ValueError(f"steps must be 0 or 1 or more, got {self.steps}")
        if self.guidance is not None and not math.isfinite(self.guidance):
            raise ValueError(f"guidance must be finite, got {self.guidance}")
        if self.noise_scale is not None and not 0 <= self.noise_scale < math.inf:
            raise ValueError(f"noise_scale must be at least 0 and finite, got {self.noise_scale}")
        if self.start is not None and not 0 < self.start <= 1:
            raise ValueError(f"start must be more than 0 and at most 1, got {self.start}")
        if self.seed is not None and not 0 <= self.seed < 2**64:
            raise ValueError(f"seed must be 0 to 2**64 - 1, got {self.seed}")

    @classmethod
    def of(cls, options: Any) -> Sampling:
        """Take what an object has of these fields: the options of a command, for instance."""
        return cls(**{f.name: getattr(options, f.name, None) for f in fields(cls)})

    def with_(self, **changes: Any) -> Sampling:
        """Return a copy in which the options that are not None take the place of its own."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})


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
    """Named scalar terms; `training.CodecLoss` weighs them."""
    bits: dict[str, Tensor]
    """Estimated bits by stream, each (B,)."""
    estimate: Tensor
    """The decoder's estimate of the latent, (B, C, h, w)."""
    symbols: Any
    """The quantiser's symbols: a tensor (B, ...) or a record of such tensors."""
