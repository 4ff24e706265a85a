"""Vector quantisation by successive refinement: each stage quantises what the stages before it have left."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from math import log2
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder, SymbolTable
from ulcompress.entropy import StagedEntropy, StaticStages
from ulcompress.entropy.order import spread
from ulcompress.entropy.staged import Captions
from ulcompress.functional.devices import at_once
from ulcompress.functional.division import ceil_div
from ulcompress.functional.straight_through import straight_through
from ulcompress.part import loadable
from ulcompress.quantizers.base import Quantizer
from ulcompress.quantizers.euclidean import EuclideanCodebook
from ulcompress.quantizers.regions import region_means
from ulcompress.quantizers.running_mean import running_mean, running_mean_square
from ulcompress.records import Quantized, ResidualIndices

STEEPER = 30
"""Factor of `rate_weight` where the first stage finds no room: by so much a bit takes away more distance there."""
AT_ONCE = 256
"""Vectors that a CPU searches at once for the entries of several stages: it bounds the memory for a large image."""


@loadable()
class ResidualQuantizer(Quantizer):
    """Quantises features in stages, coarse ones first, so that one codec has as many rates as stages.

        features ─► linear ─► centred, unit length ─┬────────►(-)────────►(-)──► ...
                                                    │          ▲           ▲
                                                    └► stage 1 ┤► stage 2 ─┤
                                                               ▼           ▼
                                                              (+)────────►(+)──► ... ─► linear ─► features

    A stage may work on blocks of 2 x 2 or more positions, whose vectors it takes as one: fewer symbols for what is
    coarse. In training the number of stages is drawn at random for every image, so that each prefix of the stages
    becomes a code. The number is sent.

    The search looks ahead: among several candidate entries near a vector, a stage takes the one from which the stages
    after it, where they are sent too, come nearest to the vector. So the indices of a lower rate need not be the first
    ones of a higher rate.

    Sources: Zeghidour et al., SoundStream, 2021, sections III-C and III-D (residual stages and their dropout); Tian et
    al., Visual Autoregressive Modeling, NeurIPS 2024, section 3.2 (stages from coarse to fine grids); Yu et al., ICLR
    2022, section 3.2 (projection and unit length); Chou, Lookabaugh and Gray, Entropy-Constrained Vector Quantization,
    IEEE Transactions on ASSP 37(1), 1989 (the choice by distance and bits); Barnes, Rizvi and Nasrabadi, Advances in
    Residual Vector Quantization, IEEE Transactions on Image Processing 5(2), 1996 (several candidates a stage).
    """

    encoder_arguments = frozenset({"decay", "revive_below", "kmeans_iterations", "rate_weight", "candidates"})
    loss_terms = frozenset({"commitment"})

    def __init__(
        self,
        *,
        codebook_sizes: Sequence[int] = (1024, 1024),
        blocks: Sequence[int] | None = None,
        channels: int = 320,
        dimension: int = 32,
        decay: float = 0.99,
        revive_below: float = 0.0,
        kmeans_iterations: int = 10,
        entropy: StagedEntropy | None = None,
        rate_weight: float = 0.0,
        unit_length: bool = True,
        candidates: int = 8,
    ):
        """Build empty codebooks, which the first training batch fills.

        Args:
            codebook_sizes: Number of entries of each stage; the first stage alone is the lowest rate.
            blocks: Side of each stage's blocks in positions of the features; None for single positions everywhere.
            channels: Channels of the features.
            dimension: Dimension of the projection, in which the stages work.
            decay: Decay of the moving averages that entries follow, per training step.
            revive_below: An entry that is chosen fewer times than this a step, on average, is moved onto a vector of
                the batch; 0 leaves unused entries alone.
            kmeans_iterations: Steps of k-means on the first training batch.
            entropy: Probabilities of the indices; by default how often each occurs. The networks of a `ContextModel`
                learn from the term `rate/spatial`, which then needs a weight.
            rate_weight: The squared distance that one bit is worth: each vector takes the entry with the least sum of
                distance and bits, so that predictable vectors cost few bits. With 0 distances alone count.
            unit_length: Bring each projected vector to unit length. Otherwise one factor brings all to unit length on
                average, which keeps the proportions of distances between features, and the projections start as
                the identity on the first `dimension` channels.
            candidates: Entries of a stage that are tried together with the stages after it. With 1 each stage is
                searched alone; so is one whose block the block of the next stage does not divide.

        Raises:
            ValueError: There is no stage, the blocks are not one for each, `rate_weight` is negative, or there are no
                candidates.
        """
        super().__init__()
        blocks = [1] * len(codebook_sizes) if blocks is None else list(blocks)
        if not codebook_sizes or len(blocks) != len(codebook_sizes) or min(blocks) < 1:
            raise ValueError(
                f"give codebook sizes, and for each a block of at least 1; got {list(codebook_sizes)} and {blocks}"
            )
        if rate_weight < 0:
            raise ValueError(f"rate_weight must be at least 0, got {rate_weight}")
        if candidates < 1:
            raise ValueError(f"candidates must be at least 1, got {candidates}")
        self.channels = channels
        self.rates = len(codebook_sizes)
        self.blocks = blocks
        self.rate_weight = rate_weight
        self.unit_length = unit_length
        self.candidates = candidates
        self.project_in = nn.Linear(channels, dimension)
        self.project_out = nn.Linear(dimension, channels)
        self.square: Tensor
        if not unit_length:
            self.register_buffer("square", torch.ones(()))
            for linear in (self.project_in, self.project_out):
                nn.init.eye_(linear.weight)
                nn.init.zeros_(linear.bias)
        options = {"decay": decay, "revive_below": revive_below, "kmeans_iterations": kmeans_iterations}
        lengths = [dimension * block**2 for block in blocks]
        self.stages = nn.ModuleList(
            EuclideanCodebook(size, length, **options) for size, length in zip(codebook_sizes, lengths, strict=True)
        )
        self.entropies = entropy if entropy is not None else StaticStages()
        self.entropies.build(list(zip(codebook_sizes, [0, *lengths[1:]], lengths, strict=True)))
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(dimension))
        self._counts = SymbolTable.uniform(self.rates)

    def check_state(self) -> None:
        """Raise ValueError for entries that are not finite."""
        if not all(codebook.saved_entries.isfinite().all() for codebook in self._codebooks):
            raise ValueError("the codebooks are damaged: an entry is not finite")

    @property
    def reads_captions(self) -> bool:
        """Whether the entropy model does."""
        return self.entropies.reads_captions

    def learns_from_rate(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the entropy model."""
        return self.entropies.parameters()

    def forward(self, features: Tensor, captions: Captions = None) -> Quantized:
        """Quantise features, (B, C, h, w), in all stages.

        The term `commitment` is the mean squared distance of the projected vectors from the sums of all stages.
        """
        return self.at_rate(features, self.rates, captions)

    def mixed(self, features: Tensor, captions: Captions = None) -> Quantized:
        """Quantise each image in as many stages as are drawn for it; the symbols are those of all stages.

        Gradients pass only to the features of images with all stages. The error of a lower rate would push the encoder
        to exaggerate, step after step, what the later stages correct already.
        """
        # Evenly over the batch: each rate has its share of every step.
        order = torch.randperm(len(features), device=features.device) + int(torch.randint(self.rates, ()))
        return self._refined(features, self.rates, 1 + order % self.rates, captions)

    def at_rate(self, features: Tensor, rate: int, captions: Captions = None) -> Quantized:
        """Quantise features in the first `rate` stages."""
        self.check_rate(rate)
        counts = torch.full((len(features),), rate, device=features.device)
        return self._refined(features, rate, counts, captions)

    def rate_of(self, symbols: ResidualIndices) -> int:
        """Return the number of stages."""
        return len(symbols.indices)

    def filling(
        self, features: Tensor, room: float, long_enough: Callable[[Any], bool], captions: Captions = None
    ) -> Iterator[ResidualIndices]:
        """Yield, for each rate, the indices whose first stages are chosen for it, with as many stages as are needed.

        Stages that find no room are left out: nothing is better than their most probable entries. Where not even the
        first one does, its indices are chosen for what a decoder makes of some of them as well.
        """
        for rate in range(1, self.rates + 1):
            counts = torch.full((len(features),), rate, device=features.device)
            symbols = self._refined(features, self.rates, counts, captions).symbols
            shorter = (replace(symbols, indices=symbols.indices[:count]) for count in range(rate, self.rates))
            yield next(filter(long_enough, shorter), symbols)
        if long_enough(self.at_rate(features, 1, captions).symbols):
            for indices in self._first_stages(features, room, captions):
                yield ResidualIndices((indices,), *features.shape[-2:])

    def _first_stages(self, features: Tensor, room: float, captions: Captions) -> Iterator[Tensor]:
        """Yield indices of the first stage for a room, in bits, that not all of them find; (1, h', w') each.

        A decoder gives each position whose index is missing that of the nearest one, or what these make probable. So
        indices are chosen so that they are cheap and more of them find room, and those that do for the means of the
        vectors that they stand for.
        """
        vectors = self._vectors(features)
        blocks = _blocks(vectors, self.blocks[0])

        def chosen(targets: Tensor) -> Tensor:
            rest = self._joined(0, targets.movedim(1, -1), vectors.shape[-2:])
            none = torch.zeros(1, dtype=torch.int64, device=rest.device)
            return self._stage(0, rest, torch.zeros_like(rest), none, STEEPER * self.rate_weight, captions)[0]

        indices = chosen(blocks)
        yield indices
        held = self._held(indices, room, captions)
        if held:
            yield chosen(region_means(blocks, held))
            yield chosen(region_means(blocks, 1 << held.bit_length() - 1, everywhere=True))

    def _held(self, indices: Tensor, room: float, captions: Captions) -> int:
        """Return how many indices of the first stage, (1, h', w'), find room in so many bits."""
        rows, columns = indices.shape[1:]
        entries = self._codebooks[0].saved_entries.to(indices.device)
        costs = torch.zeros(rows * columns, device=indices.device)

        def choose(positions: Tensor, bits: Tensor) -> Tensor:
            chosen = indices.flatten(1)[:, positions]
            costs[positions] = bits.gather(-1, chosen[..., None])[0, :, 0].to(costs)
            return chosen

        self.entropies.scan(0, costs.new_zeros(1, 0, rows, columns), entries, choose, captions)
        return int((costs[spread(rows, columns).to(costs.device)].cumsum(0) <= room).sum())

    def dequantize(self, symbols: ResidualIndices) -> Tensor:
        """Add the entries of all stages and project the sum to features, (B, C, h, w)."""
        size = symbols.rows, symbols.columns
        stages = zip(self._codebooks, self.blocks, symbols.indices, strict=False)
        parts = [_joined(stage.entries[indices], block, *size) for stage, block, indices in stages]
        return self._projected_out(sum(parts[1:], parts[0]))

    def write(self, symbols: ResidualIndices, coder: ArithmeticEncoder, captions: Captions = None) -> None:
        """Code the number of stages and then the indices, stage by stage."""
        self._counts.encode(len(symbols.indices) - 1, coder)

        def write_stage(number: int, earlier: Tensor, entries: Tensor) -> Tensor:
            indices = symbols.indices[number].cpu()
            self.entropies.write(number, earlier, entries, indices, coder, captions)
            return indices

        self._coded(len(symbols.indices), (symbols.rows, symbols.columns), write_stage)

    def read(self, coder: ArithmeticDecoder, grid: tuple[int, int], captions: Captions = None) -> ResidualIndices:
        """Read the symbols of one image whose features have h by w positions."""

        def read_stage(number: int, earlier: Tensor, entries: Tensor) -> Tensor:
            return self.entropies.read(number, earlier, entries, coder, captions)

        return ResidualIndices(self._coded(1 + self._counts.decode(coder), grid, read_stage), *grid)

    def _coded(
        self, stages: int, grid: tuple[int, int], code: Callable[[int, Tensor, Tensor], Tensor]
    ) -> tuple[Tensor, ...]:
        """Code stage after stage by a function of its number, the sum of the earlier stages, and its entries."""
        # In any other precision than the encoder's the sums, and so the probabilities, would differ now and then.
        earlier, coded = torch.zeros(1, self.project_in.out_features, *grid, dtype=torch.float32), []
        for number in range(stages):
            entries = self._codebooks[number].saved_entries
            coded.append(code(number, self._seen(number, earlier), entries))
            earlier = earlier + self._joined(number, entries[coded[-1]], grid)
        return tuple(coded)

    def alphabets(self, symbols: ResidualIndices) -> list[tuple[Tensor, int]]:
        """Return the indices of each stage that is sent, and the size of its codebook."""
        return [(indices, stage.size) for indices, stage in zip(symbols.indices, self._codebooks, strict=False)]

    def fixed_length_bits(self, rows: int, columns: int) -> list[float]:
        """Return the bits of a grid of this size in the first stage, the first two, and so on."""
        positions = [ceil_div(rows, block) * ceil_div(columns, block) for block in self.blocks]
        stages = [count * log2(stage.size) for count, stage in zip(positions, self._codebooks, strict=True)]
        return [log2(self.rates) + bits for bits in accumulate(stages)]

    def _refined(self, features: Tensor, stages: int, counts: Tensor, captions: Captions) -> Quantized:
        """Run the first `stages` stages; `counts`, (B,), says how many of them make up the features of each image."""
        with torch.autocast(features.device.type, enabled=False):
            vectors = self._vectors(features)
            rest, total = vectors.detach(), torch.zeros_like(vectors)
            earlier = torch.zeros_like(vectors)  # the sum of the earlier stages as a decoder will have it
            bits = torch.full((len(features),), self._counts.bits(0), device=features.device)
            symbols = []
            for number in range(stages):
                sent = counts > number
                indices, part, saved_part, stage_bits = self._stage(
                    number, rest, earlier, counts - number - 1, self.rate_weight, captions
                )
                symbols.append(indices)
                rest, earlier, total = rest - part, earlier + saved_part, total + part * sent[:, None, None, None]
                bits = bits + stage_bits * sent
            # The rest after all stages: that after fewer would pull the features towards the coarse codes.
            commitment = (vectors - (vectors.detach() - rest)).square().sum(1).mean()
            learning = (counts == stages)[:, None, None, None]
            quantized = self._projected_out(straight_through(vectors.where(learning, total), total))
        staged = ResidualIndices(tuple(symbols), *features.shape[-2:])
        return Quantized(quantized, staged, bits, {"commitment": commitment})

    def _vectors(self, features: Tensor) -> Tensor:
        """Return the vectors in which the stages work, (B, D, h, w)."""
        projected = self.project_in(features.float().movedim(1, -1))
        # Mean and scale belong to the projection: where that is frozen they stay.
        moving = {"training": self.training and self.project_in.training, "first": not self._codebooks[0].filled}
        centred = projected - running_mean(projected, self.mean, **moving)
        if self.unit_length:
            return F.normalize(centred, dim=-1).movedim(-1, 1)
        return (centred * running_mean_square(centred, self.square, **moving).rsqrt()).movedim(-1, 1)

    def _stage(
        self, number: int, rest: Tensor, earlier: Tensor, later: Tensor, rate_weight: float, captions: Captions
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Quantise the rest of the earlier stages, (B, D, h, w); `later`, (B,), is the number of stages that follow.

        Returns the indices, their entries as maps, the same for the entries that the entropy model is conditioned on,
        and the bits of each image.
        """
        codebook, size = self._codebooks[number], rest.shape[-2:]
        blocks = rearrange(_blocks(rest, self.blocks[number]), "b d h w -> b (h w) d")
        if codebook.training and not codebook.filled:
            codebook.fill(blocks.flatten(0, 1))
        entries = codebook.entries
        saved = entries if codebook.training else codebook.saved_entries.to(rest)
        spent = []
        alone = torch.zeros(blocks.shape[:2], dtype=torch.int64, device=blocks.device)

        def choose(positions: Tensor, bits: Tensor) -> Tensor:
            vectors, penalty = blocks[:, positions], rate_weight * bits.detach()
            chosen = self._chosen(number, vectors, penalty, later)
            if codebook.training:
                nearest = codebook.nearest(vectors.flatten(0, 1), penalty.flatten(0, 1))
                alone[:, positions] = nearest.view(chosen.shape)
            spent.append(bits.gather(-1, chosen[..., None]).sum((1, 2)))
            return chosen

        indices = self.entropies.scan(number, self._seen(number, earlier), saved, choose, captions)
        if codebook.training:
            # Entries follow the vectors nearest to them, not those that the search ahead assigns to them, since a stage
            # must also do as the last one.
            codebook.follow(blocks.flatten(0, 1), alone.flatten())
        if self.training:
            self.entropies.observe(number, indices)
        part, saved_part = (self._joined(number, table[indices], size) for table in (entries, saved))
        return indices, part, saved_part, torch.stack(spent).sum(0)

    def _chosen(self, number: int, vectors: Tensor, penalty: Tensor, later: Tensor) -> Tensor:
        """Choose entries for vectors, (B, n, D'), with the penalty of each entry, (B, n, size): indices (B, n)."""
        chosen = torch.empty(vectors.shape[:2], dtype=torch.int64, device=vectors.device)
        for more in later.clamp_min(0).unique().tolist():
            images = later.clamp_min(0) == more
            count = at_once(AT_ONCE, vectors.device)
            parts = zip(*(x[images].flatten(0, 1).split(count) for x in (vectors, penalty)), strict=True)
            best = torch.cat([self._best(number, part, prices, more) for part, prices in parts])
            chosen[images] = best.view(-1, vectors.shape[1])
        return chosen

    def _best(self, number: int, vectors: Tensor, penalty: Tensor, more: int) -> Tensor:
        """Return the best entries for vectors, (N, D'), when `more` stages follow, (N,)."""
        if not more or not self._can_look_ahead(number):
            return self._codebooks[number].nearest(vectors, penalty)
        near, sums = self._tried(number, vectors, penalty, more)
        return near.gather(1, sums.argmin(1, keepdim=True))[:, 0]

    def _least(self, number: int, vectors: Tensor, more: int) -> Tensor:
        """Return the least sum of squared distance and expected penalty that a stage and `more` can reach, (N,)."""
        codebook = self._codebooks[number]
        penalty = self.rate_weight * codebook.costs.expand(len(vectors), -1)
        if not more or not self._can_look_ahead(number):
            return codebook.least(vectors, penalty)
        return self._tried(number, vectors, penalty, more)[1].amin(1)

    def _tried(self, number: int, vectors: Tensor, penalty: Tensor, more: int) -> tuple[Tensor, Tensor]:
        """Try the entries near each vector with the stages after them: indices and sums, (N, candidates)."""
        codebook = self._codebooks[number]
        near = codebook.candidates(vectors, penalty, min(self.candidates, codebook.size))
        left = vectors[:, None] - codebook.entries[near]
        side, smaller = self.blocks[number] // self.blocks[number + 1], self.blocks[number + 1]
        pieces = rearrange(left, "n k (d a y b x) -> (n k a b) (d y x)", a=side, b=side, y=smaller, x=smaller)
        least = self._least(number + 1, pieces, more - 1).view(*near.shape, -1).sum(-1)
        return near, least + penalty.gather(1, near)

    def _can_look_ahead(self, number: int) -> bool:
        """Whether the next stage has entries, and whole blocks of it make one of this stage."""
        return bool(self._codebooks[number + 1].filled) and self.blocks[number] % self.blocks[number + 1] == 0

    def _seen(self, number: int, earlier: Tensor) -> Tensor:
        """Bring the sum of the earlier stages, (B, D, h, w), to the grid of a stage; the first gets no channels."""
        blocks = _blocks(earlier, self.blocks[number])
        return blocks if number else blocks[:, :0]

    def _joined(self, number: int, codes: Tensor, grid: Sequence[int]) -> Tensor:
        return _joined(codes, self.blocks[number], grid[0], grid[1])

    @property
    def _codebooks(self) -> list[EuclideanCodebook]:
        return list(self.stages)  # pyright: ignore[reportReturnType]

    def _projected_out(self, vectors: Tensor) -> Tensor:
        vectors = vectors.movedim(1, -1)
        if not self.unit_length:
            vectors = vectors * self.square.sqrt() + self.mean
        return self.project_out(vectors).movedim(-1, 1)


def _blocks(vectors: Tensor, block: int) -> Tensor:
    """Put the vectors of each block one after the other: (B, D, h, w) to (B, D * block^2, h', w')."""
    bottom, right = (-side % block for side in vectors.shape[-2:])
    return F.pixel_unshuffle(F.pad(vectors, (0, right, 0, bottom), mode="replicate"), block)


def _joined(blocks: Tensor, block: int, rows: int, columns: int) -> Tensor:
    """Undo `_blocks`, for blocks whose vectors come last: (B, h', w', D * block^2) to (B, D, h, w)."""
    return F.pixel_shuffle(blocks.movedim(-1, 1), block)[..., :rows, :columns]
