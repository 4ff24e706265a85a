"""Successive refinement: each stage quantises what the stages before it have left."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ulcompress.arithmetic import ArithmeticDecoder, ArithmeticEncoder, SymbolTable
from ulcompress.quantizers.base import Quantizer
from ulcompress.quantizers.indexed import IndexQuantizer
from ulcompress.records import Quantized, StagedSymbols


class ResidualQuantizer(Quantizer):
    """Quantises features in stages, coarse ones first, so that one codec has as many rates as stages.

        features ──┬────────────►(-)────────────►(-)──► ...
                   │              ▲               ▲
              blocks ─► stage 1 ──┤  ─► stage 2 ──┤
                                  ▼               ▼
                                 (+) ───────────►(+)──► ... ─► features, of the stages that are sent

    A stage may work on blocks of 2 x 2 or more positions, whose channels it sees side by side: fewer symbols for what
    is coarse. In training every image has a number of stages of its own, drawn at random, so that each prefix of the
    stages becomes a code. The number is sent; what a lower rate sends is the beginning of what a higher one does.

    Sources: Zeghidour et al., SoundStream, 2021, sections III-C and III-D (residual stages and their dropout); Tian et
    al., Visual Autoregressive Modeling, NeurIPS 2024, section 3.2 (stages on grids from coarse to fine).
    """

    def __init__(self, *, stages: Sequence[IndexQuantizer], blocks: Sequence[int] | None = None):
        """Take the stages.

        Args:
            stages: Quantisers for C features times the positions of a block; the first stage is the lowest rate.
            blocks: Side of each stage's blocks in positions of the features; None for single positions everywhere.

        Raises:
            ValueError: There is no stage, or a stage's channels are not those of its blocks.
        """
        super().__init__()
        blocks = [1] * len(stages) if blocks is None else list(blocks)
        if not stages or len(blocks) != len(stages) or min(blocks) < 1:
            raise ValueError(f"give stages, and a block of at least 1 for each; got {len(stages)} and blocks {blocks}")
        self.channels = stages[-1].channels // blocks[-1] ** 2
        for number, (stage, block) in enumerate(zip(stages, blocks, strict=True), 1):
            if stage.channels != self.channels * block**2:
                raise ValueError(
                    f"stage {number} takes {stage.channels} channels, but its blocks of {block} x {block} positions "
                    f"have {self.channels * block**2}; set its channels to that number"
                )
        self.stages = nn.ModuleList(stages)
        self.blocks = blocks
        self.rates = len(stages)
        self._counts = SymbolTable.uniform(self.rates)

    def forward(self, features: Tensor) -> Quantized:
        """Quantise features, (B, C, h, w), in all stages; in training each image's are the sum of as many as it drew.

        Bits are those of the stages in the sum, symbols those of all; the terms are means over the stages.
        """
        if not self.training:
            return self.at_rate(features, self.rates)
        # Evenly over the batch: each rate has its share of every step.
        order = torch.randperm(len(features), device=features.device) + torch.randint(self.rates, ()).item()
        return self._refined(features, self.rates, 1 + order % self.rates)

    def at_rate(self, features: Tensor, rate: int) -> Quantized:
        """Quantise features in the first `rate` stages."""
        self._check_rate(rate)
        return self._refined(features, rate, torch.full((len(features),), rate, device=features.device))

    def rate_of(self, symbols: StagedSymbols) -> int:
        """Return the number of stages."""
        return len(symbols.stages)

    def dequantize(self, symbols: StagedSymbols) -> Tensor:
        """Add what the stages stand for, (B, C, h, w)."""
        total = torch.zeros((), device=symbols.stages[0].device)
        for stage, block, indices in zip(self.parts, self.blocks, symbols.stages, strict=False):
            total = total + _joined(stage.dequantize(indices), block, symbols.rows, symbols.columns)
        return total

    def write(self, symbols: StagedSymbols, coder: ArithmeticEncoder) -> None:
        """Code the number of stages, and then stage by stage."""
        self._counts.encode(len(symbols.stages) - 1, coder)
        for stage, indices in zip(self.parts, symbols.stages, strict=False):
            stage.write(indices, coder)

    def read(self, coder: ArithmeticDecoder, grid: tuple[int, int]) -> StagedSymbols:
        """Read the symbols of one image whose features have h by w positions."""
        count = 1 + self._counts.decode(coder)
        grids = [(-(-grid[0] // block), -(-grid[1] // block)) for block in self.blocks]
        read = [stage.read(coder, own) for stage, own in zip(self.parts[:count], grids, strict=False)]
        return StagedSymbols(tuple(read), *grid)

    @property
    def parts(self) -> list[IndexQuantizer]:
        """The stages, the lowest rate first."""
        return list(self.stages)  # pyright: ignore[reportReturnType]

    def _refined(self, features: Tensor, stages: int, counts: Tensor) -> Quantized:
        """Run the first stages; each image's features are the sum of as many of them as `counts`, (B,), says."""
        rows, columns = features.shape[-2:]
        total = torch.zeros((), device=features.device)
        bits = torch.full((len(features),), self._counts.bits(0), device=features.device)
        rest, done = features, []
        for number, (stage, block) in enumerate(zip(self.parts[:stages], self.blocks, strict=False)):
            quantized = stage(_blocks(rest, block))
            part = _joined(quantized.features, block, rows, columns)
            # Gradients reach the features through each stage as if what the others have left were given.
            rest = rest - part.detach()
            sent = counts > number
            total = total + part * sent[:, None, None, None]
            bits = bits + quantized.bits * sent
            done.append(quantized)
        symbols = StagedSymbols(tuple(quantized.symbols for quantized in done), rows, columns)
        return Quantized(total, symbols, bits, _means([quantized.losses for quantized in done]))


def _blocks(features: Tensor, block: int) -> Tensor:
    """Put the positions of each block side by side in the channels: (B, C, h, w) to (B, C * block^2, h', w')."""
    bottom, right = (-side % block for side in features.shape[-2:])
    return F.pixel_unshuffle(F.pad(features, (0, right, 0, bottom), mode="replicate"), block)


def _joined(features: Tensor, block: int, rows: int, columns: int) -> Tensor:
    """Undo `_blocks`."""
    return F.pixel_shuffle(features, block)[..., :rows, :columns]


def _means(terms: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of each term over those that have it."""
    names = dict.fromkeys(name for each in terms for name in each)
    return {name: torch.stack([each[name] for each in terms if name in each]).mean() for name in names}
