"""The contract of an entropy model for stages that refine one another, and the one that only counts."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.entropy.static import StaticEntropy
from ulcompress.part import Part, loadable

MEMORY = 256
"""Symbols per entry over which frequencies are counted: fewer estimate them worse, more follow a new codebook later."""

Choose = Callable[[Tensor, Tensor], Tensor]
"""Maps positions, (n,), counted row by row, and the bits of all indices at them, (B, n, size), to indices, (B, n)."""

Captions = Sequence[str] | None
"""The caption of each image, empty where it has none; None where no image has one."""


class StagedEntropy(Part, ABC):
    """Codes the indices of a quantiser's stages, each conditioned on the earlier ones.

    Everywhere `stage` is a number from 0; `earlier`, (B, C, h, w), is the sum of the earlier stages' entries on the
    grid of the stage, where C is 0 for the first stage; `entries`, (size, D), are those of its codebook. While a
    codebook is trained these are its present entries, otherwise those of a saved codec, in half precision. When a file
    is written or read, in whatever mode, they are those of a saved codec, on the CPU. `captions` are the texts that the
    file holds before its indices, one an image; None stands for empty ones. The quantiser calls `build` once, when it
    is constructed itself.
    """

    @property
    def reads_captions(self) -> bool:
        """Whether probabilities depend on captions."""
        return False

    @abstractmethod
    def build(self, stages: Sequence[tuple[int, int, int]]) -> None:
        """Allocate what stages need; each is the size of its codebook, the channels C, and the length D of an entry."""

    @abstractmethod
    def observe(self, stage: int, indices: Tensor) -> None:
        """Take indices of any shape into the statistics; called in training only."""

    @abstractmethod
    def scan(self, stage: int, earlier: Tensor, entries: Tensor, choose: Choose, captions: Captions = None) -> Tensor:
        """Let `choose` decide all indices of a stage, some positions at a time, and return them, (B, h, w), int64.

        In training the bits have gradients if the model has weights.
        """

    @abstractmethod
    def write(
        self,
        stage: int,
        earlier: Tensor,
        entries: Tensor,
        indices: Tensor,
        coder: ArithmeticEncoder,
        captions: Captions = None,
    ) -> None:
        """Code the indices of one image, (1, h, w)."""

    @abstractmethod
    def read(
        self, stage: int, earlier: Tensor, entries: Tensor, coder: ArithmeticDecoder, captions: Captions = None
    ) -> Tensor:
        """Read the indices of one image, (1, h, w), int64."""


@loadable()
class StaticStages(StagedEntropy):
    """Codes each index by its frequency in training, independently of its neighbours and of the earlier stages."""

    def build(self, stages: Sequence[tuple[int, int, int]]) -> None:
        """Allocate one count an index of each stage."""
        for number, (size, _, _) in enumerate(stages):
            entropy = StaticEntropy(memory=MEMORY * size)
            entropy.build(size)
            self.add_module(str(number), entropy)

    def observe(self, stage: int, indices: Tensor) -> None:
        """Count indices of any shape."""
        self._of(stage).observe(indices)

    def scan(self, stage: int, earlier: Tensor, entries: Tensor, choose: Choose, captions: Captions = None) -> Tensor:
        """Let `choose` decide all indices at once."""
        images, _, rows, columns = earlier.shape
        positions = torch.arange(rows * columns, device=earlier.device)
        costs = self._of(stage).costs.to(earlier.device).expand(images, rows * columns, -1)
        return choose(positions, costs).view(images, rows, columns)

    def write(
        self,
        stage: int,
        earlier: Tensor,
        entries: Tensor,
        indices: Tensor,
        coder: ArithmeticEncoder,
        captions: Captions = None,
    ) -> None:
        """Code the indices of one image row by row."""
        self._of(stage).write(indices, coder)

    def read(
        self, stage: int, earlier: Tensor, entries: Tensor, coder: ArithmeticDecoder, captions: Captions = None
    ) -> Tensor:
        """Read the indices of one image row by row."""
        rows, columns = earlier.shape[-2:]
        return self._of(stage).read(coder, (rows, columns))

    def _of(self, stage: int) -> StaticEntropy:
        return self.get_submodule(str(stage))  # pyright: ignore[reportReturnType]
