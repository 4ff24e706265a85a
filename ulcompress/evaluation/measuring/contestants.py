"""Contestants of an evaluation: codecs at their settings, and anchors at the bytes of a codec."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property, lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from ulcompress.codec import Codec
from ulcompress.coding.bitstream import bytes_at
from ulcompress.evaluation.anchors import Anchor, match
from ulcompress.evaluation.measuring.memory import working_memory
from ulcompress.evaluation.measuring.timing import timed
from ulcompress.functional.limits import MAX_PIXELS
from ulcompress.functional.lines import printable
from ulcompress.images import from_pil, to_pil
from ulcompress.optimization import OnlineOptimizer
from ulcompress.pretrained import load, locate, metadata
from ulcompress.records import Sampling


@dataclass(frozen=True)
class Coded:
    """One image through one contestant."""

    data: bytes
    """The compressed file."""
    restored: Tensor
    """RGB (3, H, W) in [0, 1], rounded to 8 bits."""
    encode_seconds: float
    """Wall-clock time from pixels to bytes; of an anchor that of the coding which was taken, without the search."""
    decode_seconds: float
    """Wall-clock time from bytes to pixels."""
    working_memory: int | None = None
    """Peak memory of the coding in bytes; see `memory.working_memory`."""
    quality: float | str | None = None
    """An anchor's quality setting."""
    factor: float = 1.0
    """The divisor of each side before coding."""
    fits: bool = True
    """Whether an anchor's file is within its budget."""


@dataclass(frozen=True)
class Setting:
    """How a codec is used; None and nothing take the codec's defaults."""

    steps: int | None = None
    """Steps of the sampler."""
    guidance: float | None = None
    """Scale of the guidance on text."""
    noise_scale: float | None = None
    """Standard deviation of the initial noise."""
    start: float | None = None
    """Share of the process at which sampling starts."""
    sampler: str | None = None
    """Name of the solver."""
    rate: int | None = None
    """The rate of a codec with several, 1 the lowest."""
    max_bytes: int | None = None
    """Size of each file."""
    bpp: float | None = None
    """The same in bits per pixel of each image."""
    online: int | None = None
    """Steps of a search for a better code of each image."""
    without: tuple[str, ...] = ()
    """Streams that are left out."""

    def __post_init__(self):
        """Raise ValueError for numbers that no codec takes."""
        try:
            _ = self.sampling
        except ValueError as error:
            raise ValueError(f"got the setting {self}: {error}") from error
        if self.rate is not None and self.rate < 1:
            raise ValueError(f"got the setting rate={self.rate}; give 1 or more")
        for name in ("online", "max_bytes"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"got the setting {name}={value}; give 1 or more")
        if self.bpp is not None and not 0 < self.bpp < math.inf:
            raise ValueError(f"got the setting bpp={self.bpp}; give more than 0")
        sized = [name for name in ("rate", "max_bytes", "bpp", "online") if getattr(self, name) is not None]
        if len(sized) > 1 and sized != ["rate", "online"]:
            raise ValueError(f"got the setting {self}: {' and '.join(sized)} set the size of a file; give one of them")

    @classmethod
    def parse(cls, text: str) -> Setting:
        """Read `steps=4,guidance=2` or `without=syntax+text`; ValueError for anything else."""
        values: dict[str, Any] = {}
        readers = {
            "steps": int,
            "guidance": float,
            "noise_scale": float,
            "start": float,
            "sampler": str,
            "rate": int,
            "max_bytes": int,
            "bpp": float,
            "online": int,
            "without": lambda names: tuple(names.split("+")),
        }
        for item in text.split(","):
            key, _, value = item.partition("=")
            if key not in readers or not value:
                raise ValueError(
                    f"got the setting {item!r}; write one of {', '.join(f'{name}=...' for name in readers)}"
                )
            try:
                values[key] = readers[key](value)
            except ValueError:
                raise ValueError(f"got the setting {item!r}; {key} is a number") from None
        return cls(**values)

    @property
    def sampling(self) -> Sampling:
        """What of it the decoder is told."""
        return Sampling.of(self)

    def budget(self, width: int, height: int) -> int | None:
        """Return the size in bytes that the file of an image shall have; None for any."""
        return self.max_bytes if self.bpp is None else bytes_at(self.bpp, width, height)

    @property
    def chosen(self) -> dict[str, Any]:
        """The options that differ from their defaults."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) != field.default}

    def __or__(self, other: Setting) -> Setting:
        """Return this setting with what another one chooses in its place."""
        return Setting(**(asdict(self) | other.chosen))

    def __str__(self) -> str:
        """Write what `parse` reads."""
        texts = {key: "+".join(value) if isinstance(value, tuple) else str(value) for key, value in self.chosen.items()}
        return ",".join(f"{key}={value}" for key, value in texts.items())


class Contestant(ABC):
    """Turns images into files and back."""

    name: str
    """Unique in an evaluation, such as `mini steps=4` or `avif at mini`."""
    curve: str
    """Name of the curve of which it is a point, such as `mini` or `avif`."""
    kind: str
    """`codec` or `anchor`."""
    source: str
    """The codec that it needs, named as for `ulcompress.load`; of an anchor that of the contestant it is matched to."""
    suffix: str
    """Suffix of its files, with the dot."""
    matched_to: str | None = None
    """Name of the contestant whose bytes it may take."""
    settings: Mapping[str, Any]
    """The options that the user has set, as plain data."""
    fingerprint: str | None = None
    """Fingerprint of a codec, in hexadecimal; None for an anchor."""

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """All that decides what it makes of an image, as plain data: equal ones need no second coding."""

    @abstractmethod
    def code(self, image: Tensor, caption: str | None, budget: int | None) -> Coded:
        """Code RGB, (3, H, W) in [0, 1], to a file and back.

        `caption` describes the image, `budget` is the size in bytes of the file of `matched_to`. ValueError where the
        image, or the caption, cannot be coded.
        """


class CodecContestant(Contestant):
    """A codec of ours at one setting, through files on the disk."""

    kind = "codec"
    suffix = ".ulc"

    def __init__(
        self,
        *,
        codec: str,
        curve: str,
        setting: Setting,
        device: str = "cpu",
        optimizer: OnlineOptimizer | None = None,
        trust: tuple[str, ...] = (),
        max_pixels: int = MAX_PIXELS,
    ):
        """Name the codec, and the packages that it may name, as for `ulcompress.load`.

        `optimizer` is what searches a better code, as part of the encoding, where the setting asks for it; None takes
        one with its defaults. Images of more than `max_pixels` are refused.
        """
        self.source = codec
        self.curve = curve
        self.setting = setting
        self.device = device
        self.trust = trust
        self.max_pixels = max_pixels
        self.optimizer = (optimizer or OnlineOptimizer()) if setting.online else None
        self.name = " ".join(dict.fromkeys(word for word in (curve, short_name(codec), str(setting)) if word))
        self.settings = {"codec": printable(codec), **setting.chosen}

    @property
    def codec(self) -> Codec:
        """The codec, loaded when it is asked for."""
        return _loaded(self.source, self.device, self.trust)

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the codec, in hexadecimal; where its file does not state it, the codec is loaded."""
        return metadata(locate(self.source)).get("fingerprint") or self.codec.fingerprint.hex()

    @property
    def identity(self) -> Mapping[str, Any]:
        """Fingerprint, configuration, setting, device, and the weights where the fingerprint is not theirs."""
        parts = {"fingerprint": self.fingerprint, "codec": self.codec.arguments()}
        parts["device"] = self.codec.device.type
        # Codecs that read each other's files share a fingerprint, and restore different images.
        if (weights := self.codec.digest().hex()) != self.fingerprint:
            parts["weights"] = weights
        return parts | {"setting": str(self.setting), "online": self.optimizer and self.optimizer.arguments()}

    def code(self, image: Tensor, caption: str | None, budget: int | None) -> Coded:
        """Write the file, read it back and restore it."""
        codec = self.codec
        _ = codec.fingerprint  # computed once for all images, so it is no part of the time for this one
        caption = caption if codec.takes_captions else None

        def through_file() -> tuple[bytes, float, Tensor, float]:
            with TemporaryDirectory() as folder:
                file = Path(folder) / "image.ulc"
                data, encode_seconds = timed(partial(self._encode, codec, image, caption))
                file.write_bytes(data)
                data = file.read_bytes()
            options = {"sampling": self.setting.sampling, "max_pixels": self.max_pixels}
            restored, decode_seconds = timed(lambda: codec.decompress(data, **options))
            return data, encode_seconds, restored, decode_seconds

        (data, encode_seconds, restored, decode_seconds), memory = working_memory(through_file, codec.device)
        return Coded(data, rounded(restored), encode_seconds, decode_seconds, memory)

    def _encode(self, codec: Codec, image: Tensor, caption: str | None) -> bytes:
        setting = self.setting
        options = {"rate": setting.rate, "without": setting.without, "max_pixels": self.max_pixels}
        if self.optimizer is None or not setting.online:
            budget = setting.budget(width=image.shape[2], height=image.shape[1])
            return codec.compress(image, caption, max_bytes=budget, **options)
        code = codec.encode(image, caption, **options)
        search = {"steps": setting.online, "sampling": setting.sampling}
        return codec.write(self.optimizer.refine(codec, image, code, **search))


class AnchorContestant(Contestant):
    """An anchor at its fairest within the bytes that another contestant takes for the same image."""

    kind = "anchor"

    def __init__(self, *, anchor: Anchor, matched_to: Contestant):
        """Take an anchor that can be used (`Anchor.check`), and the contestant that sets the budget."""
        self.anchor = anchor
        self.matched_to = matched_to.name
        self.source = matched_to.source
        self.curve = anchor.name
        self.name = f"{anchor.name} at {matched_to.name}"
        self.suffix = f".{anchor.name}"
        self.settings = {}

    @property
    def identity(self) -> Mapping[str, Any]:
        """Its name and options; the budget is part of what the runner compares."""
        return {"anchor": self.anchor.name, **self.anchor.identity}

    def code(self, image: Tensor, caption: str | None, budget: int | None) -> Coded:
        """Match the budget."""
        assert budget is not None, "the runner codes what an anchor is matched to before it"
        best, memory = working_memory(lambda: match(self.anchor, to_pil(image), budget), torch.device("cpu"))
        return Coded(
            data=best.data,
            restored=from_pil(best.restored),
            encode_seconds=best.encode_seconds,
            decode_seconds=best.decode_seconds,
            working_memory=memory,
            quality=best.quality,
            factor=best.factor,
            fits=best.fits,
        )


@lru_cache(maxsize=1)
def _loaded(source: str, device: str, trust: tuple[str, ...]) -> Codec:
    # Settings of one codec follow one another; a second codec takes the place of the first in memory.
    return load(source, device=device, trust=trust)


def short_name(codec: str) -> str:
    """Return the name of a codec's directory, or the codec as it was given; letters that cannot be printed escaped."""
    return printable(Path(codec).resolve().name if Path(codec).is_dir() else codec)


def rounded(image: Tensor) -> Tensor:
    """Return an image as an 8-bit file would hold it: RGB (3, H, W) in [0, 1]."""
    return from_pil(to_pil(image))
