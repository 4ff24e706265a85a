"""A validation image through the file of a codec."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from ulcompress.codec import Codec


class CodedImage:
    """An image, its compressed file and its reconstruction.

    Compression and decompression run when their result is first used, and once, however many callbacks use it.
    """

    def __init__(self, codec: Codec, image: Tensor, caption: str | None):
        """Take RGB in [0, 1], (3, H, W), with its caption, which is sent where the codec takes captions."""
        self.codec = codec
        self.image = image
        self.caption = caption

    @cached_property
    def data(self) -> bytes:
        """The bytes of the file."""
        return self.codec.compress(self.image, self.caption if self.codec.takes_captions else None)

    @cached_property
    def restored(self) -> Tensor:
        """What the file is decompressed to: RGB in [0, 1], (3, H, W), on the CPU."""
        return self.codec.decompress(self.data)

    @property
    def pixels(self) -> int:
        """Height by width."""
        return self.image.shape[-2] * self.image.shape[-1]
