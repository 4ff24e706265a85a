"""Messages of the arithmetic coder that hold the symbols of one part alone."""

from collections.abc import Callable

from torch import Tensor

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.part import Part
from ulcompress.testing.requirements import require

SLACK = 1
"""Bits by which an estimate may differ from what the symbols take of their message."""
SHARE = 1e-3
"""Of the bits, by which it may differ besides: probabilities are rounded to integers."""
ENDING = 9
"""Bits by which the whole message may be longer or shorter: its end is rounded to a byte."""


def message_of(write: Callable[[ArithmeticEncoder], None]) -> bytes:
    """Return what a function writes to the coder."""
    coder = ArithmeticEncoder()
    write(coder)
    return coder.finish()


def require_cost(decoder: ArithmeticDecoder, bits: Tensor, part: Part) -> None:
    """Require the estimate of one image's bits, (1,), to be what its message costs, which the decoder has read."""
    require(bits.shape == (1,), part, f"estimates bits of shape {tuple(bits.shape)} for one image; give one an image")
    estimate, spent, size = float(bits), decoder.bits, 8 * decoder.size
    sentence = f"estimates {estimate:.1f} bits but writes {spent:.1f}; an estimate must be what the symbols cost"
    rounding = SHARE * spent
    close = abs(spent - estimate) <= SLACK + rounding and abs(size - estimate) <= ENDING + rounding
    require(close, part, sentence)


def require_bits(bits: Tensor, count: int, part: Part) -> None:
    """Require estimates of a batch's bits, (B,), to be finite and not negative."""
    require(bits.shape == (count,), part, f"estimates bits of shape {tuple(bits.shape)} for {count} images, not (B,)")
    require(
        bits.isfinite().all() and (bits >= 0).all(), part, f"estimates {bits.tolist()} bits; give finite ones, >= 0"
    )
