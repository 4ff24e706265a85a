"""The contract of an entropy model for stages that refine one another, and the one that only counts."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.entropy.static import StaticEntropy
from ulcompress.part import Part, loadable

MEMORY = 256
"""Symbols an entry that frequencies are counted of: fewer cost bits, more remember what a stage was before."""

Choose = Callable[[Tensor, Tensor], Tensor]
"""From positions, (n,), counted row by row, and the bits of all indices there, (B, n, size), to the indices, (B, n)."""


class StagedEntropy(Part, ABC):
    """Codes the indices of a quantiser's stages, each given what the earlier ones stand for.

    Everywhere `stage` is a number from 0; `given`, (B, C, h, w) on the stage's grid, is what the earlier stages stand
    for, where C is 0 for the first; `entries`, (size, D), are those of the stage's codebook: while a codebook is
    trained as they are, else as a saved codec has them, in half precision, and on the CPU when a file is written or
    read, whatever mode the model is in. The quantiser calls `build` once, when it is constructed itself.
    """

    @abstractmethod
    def build(self, stages: Sequence[tuple[int, int, int]]) -> None:
        """Allocate what each stage needs, given its codebook's size, the channels C, and the length D of an entry."""

    @abstractmethod
    def observe(self, stage: int, indices: Tensor) -> None:
        """Take indices of any shape into the statistics; called in training only."""

    @abstractmethod
    def scan(self, stage: int, given: Tensor, entries: Tensor, choose: Choose) -> Tensor:
        """Let `choose` decide all indices of a stage, some positions at a time, and return them, (B, h, w), int64.

        In training the bits have gradients, where there are weights to learn.
        """

    @abstractmethod
    def write(self, stage: int, given: Tensor, entries: Tensor, indices: Tensor, coder: ArithmeticEncoder) -> None:
        """Code the indices of one image, (1, h, w)."""

    @abstractmethod
    def read(self, stage: int, given: Tensor, entries: Tensor, coder: ArithmeticDecoder) -> Tensor:
        """Read the indices of one image, (1, h, w), int64."""


@loadable()
class StaticStages(StagedEntropy):
    """Codes each index by how often it was seen in training, whatever is around it."""

    def build(self, stages: Sequence[tuple[int, int, int]]) -> None:
        """Allocate one count an index of each stage."""
        for number, (size, _, _) in enumerate(stages):
            entropy = StaticEntropy(memory=MEMORY * size)
            entropy.build(size)
            self.add_module(str(number), entropy)

    def observe(self, stage: int, indices: Tensor) -> None:
        """Count indices of any shape."""
        self._of(stage).observe(indices)

    def scan(self, stage: int, given: Tensor, entries: Tensor, choose: Choose) -> Tensor:
        """Let `choose` decide all indices at once."""
        images, _, rows, columns = given.shape
        positions = torch.arange(rows * columns, device=given.device)
        costs = self._of(stage).costs.to(given.device).expand(images, rows * columns, -1)
        return choose(positions, costs).view(images, rows, columns)

    def write(self, stage: int, given: Tensor, entries: Tensor, indices: Tensor, coder: ArithmeticEncoder) -> None:
        """Code the indices of one image row by row."""
        self._of(stage).write(indices, coder)

    def read(self, stage: int, given: Tensor, entries: Tensor, coder: ArithmeticDecoder) -> Tensor:
        """Read the indices of one image row by row."""
        rows, columns = given.shape[-2:]
        return self._of(stage).read(coder, (rows, columns))

    def _of(self, stage: int) -> StaticEntropy:
        return self.get_submodule(str(stage))  # pyright: ignore[reportReturnType]
