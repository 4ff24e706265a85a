"""The codecs that the page offers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ulcompress.codec import Codec
from ulcompress.coding.bitstream import BitstreamError, parse
from ulcompress.functional.lines import one_line
from ulcompress.pretrained import load


@dataclass(frozen=True)
class CodecFacts:
    """What the page must know of a codec before it is used."""

    name: str
    rates: int
    """Number of its rates."""
    captions: bool
    """Whether it can send a caption."""
    divisible: bool
    """Whether it can fill a number of bytes."""
    fingerprint: str
    """Its fingerprint in hexadecimal."""

    @classmethod
    def of(cls, name: str, codec: Codec) -> CodecFacts:
        """Describe a codec, which need have no decoder."""
        rates, divisible = codec.quantizer.rates, codec.quantizer.divisible
        return cls(name, rates, codec.takes_captions, divisible, codec.fingerprint.hex())


class ServedCodecs:
    """Codecs by name, of which the one in use is loaded."""

    def __init__(
        self,
        directories: Mapping[str, Path],
        *,
        device: str = "cpu",
        trust: Collection[str] = (),
        left_out: Callable[[str], None] | None = None,
    ):
        """Read the facts of each codec.

        Args:
            directories: The directories by the names that the page shows.
            device: Torch device.
            trust: Packages that the codecs may name, as for `ulcompress.load`.
            left_out: Takes a sentence about each codec that cannot be loaded; None refuses them.

        Raises:
            ValueError: A codec cannot be loaded, and there is no `left_out`.
        """
        self._directories = directories
        self._load = partial(load, device=device, trust=trust)
        self._loaded: tuple[str, Codec] | None = None
        self.facts: dict[str, CodecFacts] = {}
        for name, directory in directories.items():
            try:
                self.facts[name] = CodecFacts.of(name, load(directory, encoder_only=True, trust=trust))
            except ValueError as error:
                if left_out is None:
                    raise
                left_out(f"{name} is left out: {one_line(error)}")

    def load(self, name: str) -> Codec:
        """Return a codec by its name; only one thread may load codecs."""
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = None  # so that there are never two on the device
            self._loaded = name, self._load(self._directories[name])
        return self._loaded[1]

    def name_for(self, data: bytes, *, max_pixels: int) -> str:
        """Return the name of the codec of a .ulc file.

        Raises:
            BitstreamError: It is no such file, of another codec, or its image has more than `max_pixels`.
        """
        fingerprint = parse(data, max_pixels=max_pixels)[0].fingerprint.hex()
        for name, facts in self.facts.items():
            if facts.fingerprint == fingerprint:
                return name
        raise BitstreamError(
            f"the file needs the codec {fingerprint}, which is not offered here; name it to `ulcompress serve --codec`"
        )
