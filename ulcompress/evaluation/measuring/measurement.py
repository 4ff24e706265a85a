"""Rate, fidelity and time of one image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ulcompress.evaluation.metrics import ms_ssim, psnr
from ulcompress.images import from_pil, to_pil


@dataclass(frozen=True)
class Measurement:
    """One image through one codec."""

    height: int
    """In pixels."""
    width: int
    bytes: int
    """Size of the compressed file."""
    bpp: float
    """Bits a pixel: eight times `bytes` by `height * width`."""
    psnr: float
    """PSNR in dB of the restored image rounded to 8 bits; infinite for equal images."""
    ms_ssim: float
    """Likewise, at most 1; NaN for an image with a side below 176 pixels."""
    encode_seconds: float
    """Wall-clock time from pixels to bytes."""
    decode_seconds: float
    """Wall-clock time from bytes to pixels."""

    @classmethod
    def compare(
        cls,
        restored: Tensor,
        original: Tensor,
        *,
        size: int,
        encode_seconds: float,
        decode_seconds: float,
    ) -> Measurement:
        """Measure a restored image against its original, RGB (3, H, W) in [0, 1], for a file of `size` bytes."""
        height, width = original.shape[1:]
        rounded = from_pil(to_pil(restored))
        fidelity = psnr(rounded, original), ms_ssim(rounded, original)
        return cls(height, width, size, 8 * size / (height * width), *fidelity, encode_seconds, decode_seconds)

    @property
    def cells(self) -> list[str]:
        """The numbers as text, in the order of `HEADINGS`."""
        fidelity = f"{self.psnr:.2f}", f"{self.ms_ssim:.4f}"
        return [
            str(self.bytes),
            f"{self.bpp:.4f}",
            *fidelity,
            f"{self.encode_seconds:.2f}",
            f"{self.decode_seconds:.2f}",
        ]


HEADINGS = ("bytes", "bpp", "PSNR (dB)", "MS-SSIM", "encode (s)", "decode (s)")
