"""Continuous online optimisation: gradient descent on the code of one image, at the encoder."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ulcompress.coding import bitstream
from ulcompress.conditioning import AdjustableConditioner
from ulcompress.functional.division import ceil_div
from ulcompress.losses import PerceptualDistance
from ulcompress.part import Part
from ulcompress.records import Code, Quantized, Sampling

if TYPE_CHECKING:
    from ulcompress.codec import Codec

FEATURES = "features"
"""Name of the variable that stands for the quantiser's input."""
OBJECTIVES = ("sampler", "training")
TERMS = {"distortion": 100.0, "rate": 1.0, "perceptual": 0.1}
"""Terms of the measure, with their default weights."""
WARM = 0.35
"""Share of the steps before the temperature falls; with `COOLING`, the rate of its fall, as Yang et al. choose them."""
COOLING = 2.0


class OnlineOptimizer(Part):
    """Searches for a better code of one image under a fixed decoder; the format of the file does not change.

        code ─► values ─► quantise, with a gradient ─► crop ─► decoder ─► rate + distortion + perceptual
                  ▲                                                                  │
                  └────────── Adam, on the variables of this step's crop ◄───────────┘
        every few steps: round ─► write the file ─► decode it ─► measure; the best one is kept, the first among them

    The result is never worse than the start by that measure. Sources: Campos et al., Content Adaptive Optimization for
    Neural Image Compression, CVPR Workshops 2019; Yang, Bamler and Mandt, NeurIPS 2020 (annealed rounding); the
    continuous mode of Neural Syntax, Wang et al., CVPR 2022. What CGDM optimises is not published: a choice here.
    """

    def __init__(
        self,
        *,
        variables: Sequence[str] | None = None,
        objective: str = "sampler",
        sampler_steps: int = 1,
        learning_rate: float = 0.02,
        weights: Mapping[str, float] | None = None,
        perceptual: PerceptualDistance | None = None,
        crop: int = 256,
        draws: int = 4,
        check_every: int = 10,
        seed: int = 0,
    ):
        """Take the variables and the objective of the search.

        Args:
            variables: Names of conditioners whose side information is a vector of numbers, `syntax` for instance, and
                `features`: the quantiser's input, which becomes the base's latents or PerCo's spatial symbols. None:
                all conditioners of that kind, or `features` where the code has none.
            objective: `sampler`: gradients flow through a short deterministic sampling; `training`: through the
                decoder's estimate in a training step, whose time and noise are fixed.
            sampler_steps: Number of steps of that sampling.
            learning_rate: Learning rate of Adam, in units of a symbol for side information and for the base's latents.
            weights: Weights of the measure's terms: `distortion` (mean squared error for pixels in [0, 1]), `rate`
                (bpp) and `perceptual`.
            perceptual: A distance that is part of the measure.
            crop: Side in pixels of the crops on which gradients are taken; they tile the image, and the steps take
                them in turn, in random order.
            draws: Number of fixed draws of time and noise for `training`, which the steps take in turn.
            check_every: Steps between two real decodings.
            seed: Seed of the order of the crops, and of the noise for `training`.

        Raises:
            ValueError: The objective or a term is unknown, or a number is too small.
        """
        super().__init__()
        if objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}")
        if unknown := set(weights or {}) - set(TERMS):
            raise ValueError(f"weights has the keys {', '.join(TERMS)}, got {min(unknown)!r}")
        if min(crop, draws, check_every, sampler_steps) < 1:
            raise ValueError("crop, draws, check_every and sampler_steps must be at least 1")
        if variables is not None and not variables:
            raise ValueError("variables is empty; name `features` or a conditioner such as `syntax`, or leave it out")
        self.variables = variables
        self.objective = objective
        self.sampler_steps = sampler_steps
        self.learning_rate = learning_rate
        self.weights = TERMS | dict(weights or {})
        self.perceptual = perceptual
        self.crop = crop
        self.draws = draws
        self.check_every = check_every
        self.seed = seed

    def refine(
        self,
        codec: "Codec",
        image: Tensor,
        code: Code,
        *,
        steps: int = 100,
        report: Callable[[int, float], None] | None = None,
        sampling: Sampling | None = None,
    ) -> Code:
        """Return a code of the same image that the decoder restores at least as well.

        Args:
            codec: Codec in evaluation mode.
            image: RGB in [0, 1], (3, H, W).
            code: Start of the search.
            steps: Steps of gradient descent.
            report: Called after each step with its number and the best measure so far; step 0 is the start, and lower
                is better.
            sampling: How the decoder will sample when the file is decoded; None for its defaults.

        An interruption (Ctrl-C) ends the search with the best code so far.

        Raises:
            ValueError: A name in `variables` is none of the code's variables.
        """
        with torch.inference_mode(False), torch.enable_grad(), _seeded(self.seed, codec.device):
            self.to(codec.device)
            best = code
            with suppress(KeyboardInterrupt):
                for step, search in _Search(self, codec, image.clone(), code, sampling or Sampling()).run(steps):
                    best = search.best
                    if report is not None:
                        report(step, search.best_measure)
            return best

    @torch.no_grad()
    def measure(self, codec: "Codec", image: Tensor, code: Code, sampling: Sampling | None = None) -> float:
        """Decode a code as its file will be; return the weighted sum of distortion, rate and perceptual distance."""
        data = codec.write(code)
        seed = bitstream.seed_of(bitstream.payload_of(data))
        restored = codec.decode(code, (sampling or Sampling()).with_(seed=seed))
        bpp = torch.tensor(8 * len(data) / image[0].numel())
        return float(self.loss(restored[None].to(image), image[None], bpp))

    def loss(self, restored: Tensor, target: Tensor, bpp: Tensor) -> Tensor:
        """Return the weighted sum for RGB (B, 3, H, W) in [0, 1] at a rate in bits per pixel."""
        total = self.weights["distortion"] * (restored - target).square().mean()
        total = total + self.weights["rate"] * bpp.to(total.device)
        if self.perceptual is not None:
            total = total + self.weights["perceptual"] * self.perceptual(restored, target).mean()
        return total


class _Search:
    """The state of one search."""

    def __init__(self, optimizer: OnlineOptimizer, codec: "Codec", image: Tensor, code: Code, sampling: Sampling):
        """Start at a code, whose file will be decoded by this sampling."""
        self.optimizer = optimizer
        self.sampling = sampling
        self.codec = codec
        self.image = image.to(codec.device)
        self.code = self.best = code
        self.rate = codec.quantizer.rate_of(code.symbols)
        self.best_measure = math.inf
        self.captions = codec.quantizer.captions(codec.conditioners, code.sides)
        self.noise_seed = bitstream.seed_of(bitstream.payload_of(codec.write(code)))
        self.adjustable = {
            name: part
            for name, part in codec.conditioners.items()
            if isinstance(part, AdjustableConditioner) and code.sides.get(name) is not None
        }
        variables = self._variables()
        self.values = {name: self._value(name).requires_grad_() for name in variables if name != FEATURES}
        self.searches_features = FEATURES in variables
        self.mosaic = _Mosaic(self._features(), side=ceil_div(optimizer.crop, codec.stride))
        tiles = self.mosaic.tiles if self.searches_features else []
        self.adam = torch.optim.Adam([*self.values.values(), *tiles], lr=optimizer.learning_rate)
        generator = torch.Generator().manual_seed(optimizer.seed)
        self.order = torch.randperm(len(self.mosaic.tiles), generator=generator).tolist()

    def run(self, steps: int) -> "Iterator[tuple[int, _Search]]":
        """Descend, decode and measure every few steps, and yield after each step; step 0 is the start."""
        self._keep(self.code)
        yield 0, self
        for step in range(1, steps + 1):
            self._descend(step - 1, _temperature((step - 1) / steps))
            if step % self.optimizer.check_every == 0 or step == steps:
                self._keep(self._rounded())
            yield step, self

    def _descend(self, step: int, temperature: float) -> None:
        tile = self.order[step % len(self.order)]
        moved = [*self.values.values(), *([self.mosaic.tiles[tile]] if self.searches_features else [])]
        loss = self._loss(tile, step % self.optimizer.draws, temperature)
        self.adam.zero_grad(set_to_none=True)  # Adam skips variables without a gradient, and their momentum
        for value, gradient in zip(moved, torch.autograd.grad(loss, moved, allow_unused=True), strict=True):
            value.grad = torch.zeros_like(value) if gradient is None else gradient
        self.adam.step()

    def _keep(self, candidate: Code) -> None:
        """Keep a code if it is better than those before."""
        measure = self.optimizer.measure(self.codec, self.image, candidate, self.sampling)
        if measure < self.best_measure:
            self.best, self.best_measure = candidate, measure

    @torch.no_grad()
    def _rounded(self) -> Code:
        """Return the code that the values stand for."""
        symbols = self._quantized(self.mosaic.whole()).symbols if self.searches_features else self.code.symbols
        sides = {name: self.adjustable[name].quantize(value) for name, value in self.values.items()}
        return replace(self.code, symbols=symbols, sides=dict(self.code.sides) | sides)

    def _variables(self) -> Sequence[str]:
        known = [*self.adjustable, FEATURES]
        chosen = self.optimizer.variables or list(self.adjustable) or [FEATURES]
        for name in chosen:
            if name not in known:
                raise ValueError(f"the code has no variable {name!r} to search; it has {', '.join(known)}")
        return chosen

    def _value(self, name: str) -> Tensor:
        return self.code.sides[name].clone().float().to(self.codec.device)

    @torch.no_grad()
    def _features(self) -> Tensor:
        """Return the quantiser's input where it is searched and gives this code, else the code's quantised features."""
        quantized = self.codec.quantizer.dequantize(self.code.symbols.to(self.codec.device))
        if not self.searches_features:
            return quantized
        encoded = self.codec.features(self.image)
        return encoded if torch.equal(self._quantized(encoded).features, quantized) else quantized

    def _quantized(self, features: Tensor) -> Quantized:
        return self.codec.quantizer.at_rate(features, self.rate, **self.captions)

    def _loss(self, tile: int, draw: int, temperature: float) -> Tensor:
        rows, columns = self.mosaic.places[tile]
        target = self.image[None, :, _scaled(rows, self.codec.stride), _scaled(columns, self.codec.stride)]
        bpp = torch.zeros(1, device=self.codec.device)
        sides = dict(self.code.sides)
        for name, value in self.values.items():
            sides[name] = self.adjustable[name].quantize(value)
            bits = self.adjustable[name].bits(sides[name])
            assert bits is not None
            bpp = bpp + bits.to(bpp) / self.image[0].numel()
        features = self.mosaic.whole()
        if self.searches_features:
            quantized = self.codec.quantizer.anneal(features, temperature, self.rate, **self.captions)
            features = quantized.features
            # The distortion is that of the crop, and only its symbols change: their bits are per pixel of the crop.
            bpp = bpp + quantized.bits.to(bpp) / target[0, 0].numel()
        restored = self._restored(features[..., rows, columns], sides, target, draw)
        return self.optimizer.loss(restored, target, bpp.mean())

    def _restored(self, features: Tensor, sides: Mapping[str, Any], target: Tensor, draw: int) -> Tensor:
        codec, optimizer = self.codec, self.optimizer
        height, width = target.shape[-2:]
        if optimizer.objective == "sampler":
            sampling = self.sampling.with_(seed=self.noise_seed, steps=optimizer.sampler_steps)
            return codec.restore(features, sides, (height, width), sampling)
        with _seeded(optimizer.seed * optimizer.draws + draw, codec.device):
            denoised = codec.decoder.loss(
                codec.autoencoder.encode(codec.padded(target[0])), codec.condition(features, sides)
            )
        return codec.autoencoder.decode(denoised.estimate)[..., :height, :width]


class _Mosaic:
    """A map of features, (1, C, h, w), in tiles that are separate leaf tensors, so that each can be optimised alone."""

    def __init__(self, features: Tensor, side: int):
        """Cut the map into tiles of at most `side` by `side` positions and of nearly one size."""
        bands = features.chunk(ceil_div(features.shape[-2], side), -2)
        rows = [band.chunk(ceil_div(features.shape[-1], side), -1) for band in bands]
        self.columns = len(rows[0])
        self.tiles = [tile.clone().requires_grad_() for row in rows for tile in row]  # clone: out of inference mode
        heights, widths = [band.shape[-2] for band in bands], [tile.shape[-1] for tile in rows[0]]
        self.places = [(row, column) for row in _spans(heights) for column in _spans(widths)]

    def whole(self) -> Tensor:
        """Return the map, with a gradient to every tile."""
        rows = [self.tiles[start : start + self.columns] for start in range(0, len(self.tiles), self.columns)]
        return torch.cat([torch.cat(row, -1) for row in rows], -2)


def _spans(lengths: Sequence[int]) -> list[slice]:
    ends = list(accumulate(lengths))
    return [slice(end - length, end) for length, end in zip(lengths, ends, strict=True)]


def _scaled(positions: slice, stride: int) -> slice:
    return slice(stride * positions.start, stride * positions.stop)


def _temperature(progress: float) -> float:
    """Return the temperature of the annealed rounding after the share `progress` of the steps."""
    return 0.5 * math.exp(-COOLING * max(0.0, progress - WARM))


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the random numbers within, and restore the generators afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
