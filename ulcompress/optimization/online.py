"""Continuous online optimisation: gradient descent on the code of one image, at the encoder."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ulcompress import bitstream
from ulcompress.losses import PerceptualDistance
from ulcompress.part import Part
from ulcompress.records import Code

if TYPE_CHECKING:
    from ulcompress.codec import Codec

FEATURES = "features"
"""Name of the variable that stands for what the quantiser is given."""
OBJECTIVES = ("sampler", "training")
TERMS = {"distortion": 100.0, "rate": 1.0, "perceptual": 0.1}
"""What the measure sums, with the default weights."""
WARM = 0.35
"""Share of the steps before the temperature falls, and how far it falls: the proportions of Yang et al."""
COOLING = 2.0


class OnlineOptimizer(Part):
    """Searches a better code of one image for a given decoder; files stay what they were.

        code ─► values ─► quantise, with a gradient ─► crop ─► decoder ─► rate + distortion + perceptual
                  ▲                                                                  │
                  └────────────────────────────── Adam ◄─────────────────────────────┘
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
        learning_rate: float = 0.05,
        weights: Mapping[str, float] | None = None,
        perceptual: PerceptualDistance | None = None,
        crop: int = 256,
        draws: int = 4,
        check_every: int = 10,
        seed: int = 0,
    ):
        """Say what is searched, and for what.

        Args:
            variables: Names of conditioners whose side information is a vector of numbers, `syntax` for instance, and
                `features`: what the quantiser turns into the base's latents or PerCo's spatial symbols. None: all
                conditioners of that kind, or `features` where there is none.
            objective: `sampler`: gradients come through a short deterministic sampling; `training`: through the
                decoder's estimate in a training step, whose time and noise are fixed.
            sampler_steps: Of that sampling.
            learning_rate: Of Adam, in units of a symbol for side information.
            weights: Of the measure's terms: `distortion` (mean squared error for pixels in [0, 1]), `rate` (bpp) and
                `perceptual`.
            perceptual: A distance that is part of the measure.
            crop: Side in pixels of the crops on which gradients are taken; a smaller image is taken whole.
            draws: Number of fixed crops, and of fixed draws of noise for `training`, that the steps take in turn.
            check_every: Steps between two real decodings.
            seed: Of crops and noise.

        Raises:
            ValueError: There is no such objective or term, or a number is too small.
        """
        super().__init__()
        if objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}")
        if unknown := set(weights or {}) - set(TERMS):
            raise ValueError(f"weights are of {', '.join(TERMS)}, got one of {min(unknown)!r}")
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
    ) -> Code:
        """Return a code of the same image that the decoder restores at least as well.

        Args:
            codec: In evaluation mode.
            image: RGB in [0, 1], (3, H, W).
            code: Where the search starts.
            steps: Of gradient descent.
            report: Is told every step and the best measure so far, that of the start as step 0; lower is better.

        An interruption (Ctrl-C) ends the search with the best code so far.

        Raises:
            ValueError: The code has no such variables.
        """
        with torch.inference_mode(False), torch.enable_grad(), _seeded(self.seed, codec.device):
            self.to(codec.device)
            search = _Search(self, codec, image.clone(), code)
            with suppress(KeyboardInterrupt):
                search.run(steps, report or (lambda step, measure: None))
            return search.best

    @torch.no_grad()
    def measure(self, codec: "Codec", image: Tensor, code: Code) -> float:
        """Decode the very file of a code and return the weighted sum of distortion, rate and perceptual distance."""
        data = codec.write(code)
        restored = codec.decode(code, seed=bitstream.seed_of(bitstream.payload_of(data)))
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

    def __init__(self, optimizer: OnlineOptimizer, codec: "Codec", image: Tensor, code: Code):
        self.optimizer = optimizer
        self.codec = codec
        self.image = image.to(codec.device)
        self.code = self.best = code
        self.best_measure = math.inf
        with torch.no_grad():  # which also frees the symbols of inference mode, in which `encode` made them
            self.features = codec.quantizer.dequantize(code.symbols.to(codec.device)).clone()
        self.noise_seed = bitstream.seed_of(bitstream.payload_of(codec.write(code)))
        self.values = {name: self._value(name).requires_grad_() for name in self._variables()}
        self.adam = torch.optim.Adam(list(self.values.values()), lr=optimizer.learning_rate)
        self.crops = list(self._draw_crops())

    def run(self, steps: int, report: Callable[[int, float], None]) -> None:
        """Descend, and look every few steps at what a decoder makes of it."""
        self._keep(self.code)
        report(0, self.best_measure)
        for step in range(1, steps + 1):
            self._descend(step % self.optimizer.draws, _temperature((step - 1) / steps))
            if step % self.optimizer.check_every == 0 or step == steps:
                self._keep(self._rounded())
            report(step, self.best_measure)

    def _descend(self, draw: int, temperature: float) -> None:
        loss = self._loss(draw, temperature)
        values = list(self.values.values())
        for value, gradient in zip(values, torch.autograd.grad(loss, values, allow_unused=True), strict=True):
            value.grad = torch.zeros_like(value) if gradient is None else gradient
        self.adam.step()

    def _keep(self, candidate: Code) -> None:
        """Keep a code if it is better than those before."""
        measure = self.optimizer.measure(self.codec, self.image, candidate)
        if measure < self.best_measure:
            self.best, self.best_measure = candidate, measure

    @torch.no_grad()
    def _rounded(self) -> Code:
        """Return the code that the values stand for."""
        symbols, sides = self.code.symbols, dict(self.code.sides)
        for name, value in self.values.items():
            if name == FEATURES:
                symbols = self.codec.quantizer(value).symbols
            else:
                sides[name] = self.codec.conditioners[name].quantize(value)
        return replace(self.code, symbols=symbols, sides=sides)

    def _variables(self) -> Sequence[str]:
        sides, parts = self.code.sides, self.codec.conditioners
        adjustable = [name for name, part in parts.items() if part.adjustable and sides.get(name) is not None]
        known = [*adjustable, FEATURES]
        chosen = self.optimizer.variables or adjustable or [FEATURES]
        for name in chosen:
            if name not in known:
                raise ValueError(f"nothing can be searched by the name {name!r} here, only {', '.join(known)}")
        return chosen

    def _value(self, name: str) -> Tensor:
        if name == FEATURES:
            return self.codec.features(self.image).clone()
        return self.code.sides[name].clone().float().to(self.codec.device)

    def _loss(self, draw: int, temperature: float) -> Tensor:
        bits = torch.zeros(1, device=self.codec.device)
        features, sides = self.features, dict(self.code.sides)
        for name, value in self.values.items():
            if name == FEATURES:
                quantized = self.codec.quantizer.anneal(value, temperature)
                features, cost = quantized.features, quantized.bits
            else:
                sides[name] = self.codec.conditioners[name].quantize(value)
                cost = self.codec.conditioners[name].bits(sides[name])
            assert cost is not None
            bits = bits + cost.to(bits)
        rows, columns = self.crops[draw]
        target = self.image[None, :, _scaled(rows, self.codec.stride), _scaled(columns, self.codec.stride)]
        restored = self._restored(features[..., rows, columns], sides, target, draw)
        return self.optimizer.loss(restored, target, bits.mean() / self.image[0].numel())

    def _restored(self, features: Tensor, sides: Mapping[str, Any], target: Tensor, draw: int) -> Tensor:
        codec, optimizer = self.codec, self.optimizer
        height, width = target.shape[-2:]
        if optimizer.objective == "sampler":
            return codec.restore(features, sides, (height, width), seed=self.noise_seed, steps=optimizer.sampler_steps)
        with _seeded(optimizer.seed * optimizer.draws + draw, codec.device):
            denoised = codec.decoder.loss(
                codec.autoencoder.encode(codec.padded(target[0])), codec.condition(features, sides)
            )
        return codec.autoencoder.decode(denoised.estimate)[..., :height, :width]

    def _draw_crops(self) -> Iterator[tuple[slice, slice]]:
        """Draw squares on the grid of the features."""
        generator = torch.Generator().manual_seed(self.optimizer.seed)
        side = -(-self.optimizer.crop // self.codec.stride)
        for _ in range(self.optimizer.draws):
            places = (max(length - side, 0) + 1 for length in self.features.shape[-2:])
            row, column = (int(torch.randint(count, (), generator=generator)) for count in places)
            yield slice(row, row + side), slice(column, column + side)


def _scaled(positions: slice, stride: int) -> slice:
    return slice(stride * positions.start, stride * positions.stop)


def _temperature(progress: float) -> float:
    """Tell the temperature of rounding, given the share of the steps that are done."""
    return 0.5 * math.exp(-COOLING * max(0.0, progress - WARM))


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed what is drawn within, and leave the generators as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
