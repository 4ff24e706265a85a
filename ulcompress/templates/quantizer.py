"""A quantiser: features to symbols and back."""

from torch import Tensor, nn

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.entropy import EntropyModel, StaticEntropy
from ulcompress.functional.straight_through import straight_through
from ulcompress.part import loadable
from ulcompress.quantizers import Quantizer
from ulcompress.records import Quantized


@loadable()
class Template(Quantizer):
    """Keeps the signs of a few projected channels."""

    def __init__(self, *, channels: int = 32, signs: int = 8, entropy: EntropyModel | None = None):
        """Build the projections.

        Args:
            channels: Channels of the features.
            signs: Symbols a position, each one of two.
            entropy: Probability of the symbols; static frequencies by default.
        """
        super().__init__()
        self.channels = channels
        self.signs = signs
        self.project_in = nn.Conv2d(channels, signs, 1)
        self.project_out = nn.Conv2d(signs, channels, 1)
        self.entropy = entropy if entropy is not None else StaticEntropy()
        self.entropy.build(2)

    def forward(self, features: Tensor) -> Quantized:
        """Quantise features, (B, C, h, w), to symbols, (B, signs, h, w)."""
        projected = self.project_in(features)
        symbols = (projected.detach() > 0).long()
        if self.training:
            self.entropy.observe(symbols)
        quantized = self.project_out(straight_through(projected, 2.0 * symbols - 1))
        return Quantized(quantized, symbols, self.entropy.bits(symbols))

    def dequantize(self, symbols: Tensor) -> Tensor:
        """Return the features of symbols, (B, signs, h, w)."""
        return self.project_out(2.0 * symbols - 1)

    def write(self, symbols: Tensor, coder: ArithmeticEncoder) -> None:
        """Code the symbols of one image."""
        self.entropy.write(symbols, coder)

    def read(self, coder: ArithmeticDecoder, grid: tuple[int, int]) -> Tensor:
        """Read the symbols of one image, (1, signs, h, w)."""
        return self.entropy.read(coder, (self.signs, *grid))
