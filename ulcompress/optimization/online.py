"""Continuous online optimisation: gradient descent on the code of one image, at the encoder."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ulcompress import bitstream
from ulcompress.losses import PerceptualDistance
from ulcompress.part import Part
from ulcompress.records import Code, Condition

if TYPE_CHECKING:
    from ulcompress.codec import Codec

FEATURES = "features"
"""Name of the variable that stands for what the quantiser is given."""
OBJECTIVES = ("sampler", "training")
WARM = 0.35
"""Share of the steps before the temperature falls, and how far it falls: the proportions of Yang et al."""
COOLING = 2.0


class OnlineOptimizer(Part):
    """Searches a better code of one image for a given decoder; files stay what they were.

        code ─► values ─► quantise, with a gradient ─► condition ─► decoder ─► rate + distortion + perceptual
                  ▲                                                                       │
                  └──────────────────────────────── Adam ◄────────────────────────────────┘
        every few steps: round ─► write the file ─► decode it ─► measure; the best one is kept, the first among them

    The result is never worse than the start by that measure. Sources: Campos et al., Content Adaptive Optimization for
    Neural Image Compression, CVPR Workshops 2019; Yang, Bamler and Mandt, NeurIPS 2020 (annealed rounding); the
    continuous mode of Neural Syntax, Wang et al., CVPR 2022. What CGDM optimises is not published: a choice here.
    """

    def __init__(
        self,
        *,
        variables: Sequence[str] = ("syntax",),
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
                `features`: what the quantiser turns into the base's latents or PerCo's spatial symbols.
            objective: `sampler`: gradients come through a short deterministic sampling; `training`: through the
                decoder's training loss with fixed noise.
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
            ValueError: There is no such objective, or a number is too small.
        """
        super().__init__()
        if objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}")
        if min(crop, draws, check_every, sampler_steps) < 1:
            raise ValueError("crop, draws, check_every and sampler_steps must be at least 1")
        if not variables:
            raise ValueError("variables is empty; name `features` or a conditioner such as `syntax`")
        self.variables = list(variables)
        self.objective = objective
        self.sampler_steps = sampler_steps
        self.learning_rate = learning_rate
        self.weights = {"distortion": 100.0, "rate": 1.0, "perceptual": 0.1} | dict(weights or {})
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
            report: Is told every step and the best measure so far; lower is better.

        An interruption (Ctrl-C) ends the search with the best code so far.

        Raises:
            ValueError: The codec has no such variables.
        """
        with torch.inference_mode(False), torch.enable_grad():
            search = _Search(self, codec, image.clone(), code)
            try:
                for step in range(steps):
                    search.descend(step, steps)
                    if (step + 1) % self.check_every == 0 or step == steps - 1:
                        search.check()
                    if report is not None:
                        report(step + 1, search.best_measure)
            except KeyboardInterrupt:
                pass
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
        self.code = code
        self.pixels = image[0].numel()
        self.values = dict(self._values())
        self.adam = torch.optim.Adam(list(self.values.values()), lr=optimizer.learning_rate)
        self.best = code
        self.best_measure = optimizer.measure(codec, self.image, code)
        self.target = codec.padded(self.image)
        self.features = codec.quantizer.dequantize(code.symbols.to(codec.device)).detach().clone()
        self.noise_seed = bitstream.seed_of(bitstream.payload_of(codec.write(code)))
        self.crops = list(self._draw_crops())

    def descend(self, step: int, steps: int) -> None:
        """Take one step of gradient descent."""
        late = max(0.0, step / steps - WARM)
        temperature = 0.5 * math.exp(-COOLING * late)
        loss = self._loss(step % self.optimizer.draws, temperature)
        values = list(self.values.values())
        for value, gradient in zip(values, torch.autograd.grad(loss, values, allow_unused=True), strict=True):
            value.grad = torch.zeros_like(value) if gradient is None else gradient
        self.adam.step()

    @torch.no_grad()
    def check(self) -> None:
        """Round the values, and keep the code if it is the best one."""
        symbols, sides = self.code.symbols, dict(self.code.sides)
        for name, value in self.values.items():
            if name == FEATURES:
                symbols = self.codec.quantizer(value).symbols
            else:
                sides[name] = self.codec.conditioners[name].quantize(value)
        candidate = replace(self.code, symbols=symbols, sides=sides)
        measure = self.optimizer.measure(self.codec, self.image, candidate)
        if measure < self.best_measure:
            self.best, self.best_measure = candidate, measure

    def _values(self) -> Iterator[tuple[str, Tensor]]:
        for name in self.optimizer.variables:
            if name == FEATURES:
                yield name, self.codec.features(self.image).clone().requires_grad_()
                continue
            side = self.code.sides.get(name)
            if side is None or not self.codec.conditioners[name].adjustable:
                adjustable = [key for key, part in self.codec.conditioners.items() if part.adjustable]
                raise ValueError(
                    f"the code has no adjustable side information {name!r}; "
                    f"variables of this codec are {', '.join([FEATURES, *adjustable])}"
                )
            yield name, side.clone().float().to(self.codec.device).requires_grad_()

    def _loss(self, draw: int, temperature: float) -> Tensor:
        bits = torch.zeros(1, device=self.codec.device)
        features, sides = self.features, dict(self.code.sides)
        for name, value in self.values.items():
            if name == FEATURES:
                quantized = self.codec.quantizer.anneal(value, temperature)
                features, bits = quantized.features, bits + quantized.bits
            else:
                sides[name] = self.codec.conditioners[name].quantize(value)
                bits = bits + self.codec.conditioners[name].bits(sides[name])
        condition, target = _cropped(self.codec.condition(features, sides), self.target, self.crops[draw])
        restored = self._restored(condition, target, draw)
        return self.optimizer.loss(restored, target, bits.mean() / self.pixels)

    def _restored(self, condition: Condition, target: Tensor, draw: int) -> Tensor:
        autoencoder, decoder = self.codec.autoencoder, self.codec.decoder
        if self.optimizer.objective == "sampler":
            rows, columns = (side // autoencoder.stride for side in target.shape[-2:])
            steps = self.optimizer.sampler_steps
            return autoencoder.decode(decoder.sample(condition, (rows, columns), seed=self.noise_seed, steps=steps))
        with torch.random.fork_rng():
            torch.manual_seed(self.optimizer.seed * self.optimizer.draws + draw)
            return autoencoder.decode(decoder.loss(autoencoder.encode(target), condition).estimate)

    def _draw_crops(self) -> Iterator[tuple[slice, slice]]:
        """Draw squares whose corners lie on the grid of the features."""
        generator = torch.Generator().manual_seed(self.optimizer.seed)
        stride = self.codec.stride
        side = -(-self.optimizer.crop // stride) * stride
        for _ in range(self.optimizer.draws):
            corner = []
            for length in self.target.shape[-2:]:
                places = max(length - side, 0) // stride + 1
                corner.append(stride * int(torch.randint(places, (), generator=generator)))
            yield slice(corner[0], corner[0] + side), slice(corner[1], corner[1] + side)


def _cropped(condition: Condition, target: Tensor, crop: tuple[slice, slice]) -> tuple[Condition, Tensor]:
    """Cut a square out of the image, (1, 3, H, W), and out of the maps of its condition."""

    def cut(part: Tensor | None) -> Tensor | None:
        if part is None:
            return None
        strides = [whole // side for whole, side in zip(target.shape[-2:], part.shape[-2:], strict=True)]
        rows, columns = (slice(at.start // s, at.stop // s) for at, s in zip(crop, strides, strict=True))
        return part[..., rows, columns]

    return condition.with_(spatial=cut(condition.spatial), base=cut(condition.base)), target[..., crop[0], crop[1]]
