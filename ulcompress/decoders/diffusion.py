"""The decoder of PerCo and CGDM: a conditional diffusion, with or without an estimate of its target."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from ulcompress.decoders.base import Decoder
from ulcompress.denoisers import Context, Denoiser
from ulcompress.diffusion import DDIM, BoundaryControl, Estimate, Objective, Sampler
from ulcompress.diffusion.samplers import sampler_of
from ulcompress.functional.division import ceil_div
from ulcompress.functional.padding import pad_to_multiple
from ulcompress.part import loadable
from ulcompress.records import Condition, Denoised, Sampling

TEXT = frozenset({"text", "text_mask", "text_null"})


@loadable()
class DiffusionDecoder(Decoder):
    """Samples a latent or an image by a few deterministic steps of a denoiser.

        condition ─► estimate ─┬─► denoiser.context, once a sample and patch
                               │            ▼
        seed ─► boundary ─► x_t ─► patches ─► denoiser ─► guidance ─► merge ─► (+ estimate) ─► x_0 ─► sampler ─► x_t ...

    PerCo diffuses the latent under spatial and text conditions, with or without a linear estimate; CGDM diffuses the
    image, with the base reconstruction as its estimate. Sources: PerCo, arXiv 2310.10325, section 3; CGDM (Kuang et
    al., ACM MM 2024); Ho and Salimans, Classifier-Free Diffusion Guidance, 2022, equation 6; late start from an
    estimate: DIRAC (Goose et al., arXiv 2301.05489).
    """

    loss_terms = frozenset({"diffusion"})

    def __init__(
        self,
        *,
        denoiser: Denoiser,
        objective: Objective | None = None,
        estimate: Estimate | None = None,
        sampler: Sampler | None = None,
        steps: int = 20,
        start: float = 1.0,
        guidance: float = 1.0,
        boundary: BoundaryControl | None = None,
    ):
        """Take the parts.

        Args:
            denoiser: The denoising network.
            objective: What is diffused, at which noise, and how the network learns it; by default v-prediction of the
                target on Stable Diffusion's schedule with zero terminal signal.
            estimate: First estimate of the target from the condition; None for none.
            sampler: Solver from noise to a sample; deterministic DDIM by default.
            steps: Default number of sampling steps; fewer give results closer to the mean (better PSNR, less texture);
                0 returns the estimate.
            start: Share of the process at which sampling starts, from the estimate with that much noise; 1 is the
                whole. Training draws no higher noise levels.
            guidance: Default guidance scale of the text; 1 is no guidance, in half the time.
            boundary: Initial noise and overlapped patches, in positions of the target; by default a canvas of noise and
                patches of 256 that overlap by 64. A denoiser that was trained on crops with zeros beyond their border
                (`padding` of `UNet`) restores best in patches of about that size.

        Raises:
            ValueError: Two parts do not fit together, or a number is out of its range.
        """
        super().__init__()
        self.denoiser = denoiser
        self.objective = objective if objective is not None else Objective()
        self.estimate = estimate
        self.sampler = sampler if sampler is not None else DDIM()
        self.boundary = boundary if boundary is not None else BoundaryControl(patch=256, overlap=64)
        _check_estimate(denoiser, estimate)
        self.objective.check(estimate, start, denoiser.channels)
        self.sampler.check(self.objective.schedule, start)
        if steps != 0 or estimate is None:
            self.objective.schedule.sampling_levels(steps, start)
        if self.boundary.patch % denoiser.multiple:
            raise ValueError(
                f"the patch must be a multiple of {denoiser.multiple}, which {type(denoiser).__name__} halves down to "
                f"one position, got {self.boundary.patch}"
            )
        self.channels = denoiser.channels
        known = frozenset() if estimate is None else estimate.requires
        self.requires = denoiser.requires - {"estimate"} | known
        channels = {name: count for name, count in denoiser.condition_channels.items() if name != "estimate"}
        self.condition_channels = channels | ({} if estimate is None else estimate.condition_channels)
        self.accepts = frozenset(self.condition_channels) | (TEXT if "text" in channels else frozenset())
        self.feature_stride = None if estimate is None else estimate.feature_stride
        self.target_stride = None if estimate is None else estimate.target_stride
        self.steps = steps
        self.start = start
        self.guidance = guidance

    @property
    def prepared(self) -> bool:
        """Whether estimate and objective have learnt from data what they must."""
        return self.objective.prepared and (self.estimate is None or self.estimate.prepared)

    def prepare(self, batches: Iterable[tuple[Tensor, Condition]]) -> None:
        """Let the estimate, then the objective learn from targets, (B, C, h, w), and their conditions."""
        if self.estimate is not None and not self.estimate.prepared:
            batches = list(batches)  # the objective learns of what the estimate leaves missing
            self.estimate.prepare(batches)
        if not self.objective.prepared:
            self.objective.prepare((target, self._estimate(condition)) for target, condition in batches)

    def loss(self, target: Tensor, condition: Condition) -> Denoised:
        """Return the loss of the prediction, `diffusion`, for targets, (B, C, h, w), at random noise levels.

        Where the objective draws several levels a target, the estimate is that at the first.
        """
        count, size = len(target), (target.shape[-2], target.shape[-1])
        condition = self.on_grid(condition, size)
        context = self.denoiser.context(condition)
        target = pad_to_multiple(target, self.denoiser.multiple)
        if self.objective.draws > 1:
            rows = torch.arange(count, device=target.device).repeat(self.objective.draws)
            target, condition, context = target[rows], condition.of(rows), [features[rows] for features in context]
        clean = self.objective.to_diffused(target, condition.estimate)

        def network(noisy: Tensor, levels: Tensor, rows: Tensor) -> Tensor:
            if len(rows) == len(clean):
                return self._denoise(noisy, levels, condition, context)
            return self._denoise(noisy, levels, condition.of(rows), [features[rows] for features in context])

        begin = self.objective.known(condition.estimate, clean)
        known = begin if self._adds else None
        denoised = self.objective.loss(clean, network, begin=begin, known=known, start=self.start, size=size)
        estimate = self.objective.to_target(denoised.estimate, condition.estimate)
        return Denoised(denoised.losses, estimate[:count, :, : size[0], : size[1]])

    def sample(self, condition: Condition, shape: tuple[int, int], sampling: Sampling) -> Tensor:
        """Sample a target of h by w positions, (1, C, h, w); 0 steps return the estimate.

        The contexts of all patches are computed once for all steps.
        """
        steps = self.steps if sampling.steps is None else sampling.steps
        scale = self.guidance if sampling.guidance is None else sampling.guidance
        start = self.start if sampling.start is None else sampling.start
        sampler = self.sampler if sampling.sampler is None else sampler_of(sampling.sampler)
        self._check(sampler, start)
        condition = self.on_grid(condition, shape)
        if steps == 0 and condition.estimate is not None:
            return condition.estimate[..., : shape[0], : shape[1]]
        schedule = self.objective.schedule
        height, width = (ceil_div(side, self.denoiser.multiple) * self.denoiser.multiple for side in shape)
        noise = self.boundary.noise_of((1, self.channels, height, width), sampling.seed or 0, sampling.noise_scale)
        noise = noise.to(condition.device)
        highest = schedule.at(schedule.highest(start), noise)
        noisy = schedule.noisy(self.objective.known(condition.estimate, noise), noise, highest)
        patches: dict[tuple[int, int], tuple[Condition, Context]] = {}

        def denoise(noisy: Tensor, levels: Tensor) -> Tensor:
            def denoise_patch(rows: slice, columns: slice) -> Tensor:
                position = rows.start, columns.start
                if position not in patches:
                    part = condition.crop(rows, columns)
                    patches[position] = part, self.denoiser.context(part)
                return self._guided(noisy[..., rows, columns], levels, *patches[position], scale)

            return self._clean(self.boundary.merge(denoise_patch, height, width), noisy, levels, condition)

        clean = sampler.sample(schedule, denoise, noisy, steps, start=start)
        return self.objective.to_target(clean, condition.estimate)[..., : shape[0], : shape[1]]

    def noisy_target(self, target: Tensor, condition: Condition, level: float) -> Tensor:
        """Return x_t at a noise level, (B, C, h, w), padded: where sampling starts, it is the estimate's.

        Args:
            target: The targets, (B, C, h, w).
            condition: As `on_grid` returns it.
            level: From 0 to that at which sampling starts.
        """
        schedule = self.objective.schedule
        clean = self.objective.to_diffused(pad_to_multiple(target, self.denoiser.multiple), condition.estimate)
        if level == schedule.highest(self.start):
            clean = self.objective.known(condition.estimate, clean)
        return schedule.noisy(clean, torch.randn_like(clean), schedule.at(level, clean))

    def predict(
        self, noisy: Tensor, levels: Tensor, condition: Condition, context: Context, *, guidance: float = 1.0
    ) -> Tensor:
        """Return the estimate of x_0, (B, C, h, w).

        Args:
            noisy: x_t, (B, C, h, w).
            levels: Noise levels, (B,).
            condition: As `on_grid` returns it.
            context: Of the denoiser, for this condition.
            guidance: Guidance scale of the text; 1 is no guidance.
        """
        output = self._guided(noisy, levels, condition, context, guidance)
        return self._clean(output, noisy, levels, condition)

    def _clean(self, output: Tensor, noisy: Tensor, levels: Tensor, condition: Condition) -> Tensor:
        known = self.objective.known(condition.estimate, noisy) if self._adds else None
        return self.objective.clean(output, noisy, levels, known)

    def _check(self, sampler: Sampler, start: float) -> None:
        """Raise ValueError for a start, or a sampler from there, with which training has not reckoned."""
        if start > self.start:
            raise ValueError(
                f"the decoder was trained for a start of {self.start}, got {start}; give no more, or leave it out"
            )
        sampler.check(self.objective.schedule, start)

    def _guided(self, noisy: Tensor, levels: Tensor, condition: Condition, context: Context, scale: float) -> Tensor:
        output = self._denoise(noisy, levels, condition, context)
        if scale == 1 or condition.text_null is None or "text" not in self.accepts:
            return output
        without = condition.with_(text=condition.text_null, text_mask=None)
        plain = self._denoise(noisy, levels, without, context)
        return plain + scale * (output - plain)

    def _denoise(self, noisy: Tensor, levels: Tensor, condition: Condition, context: Context) -> Tensor:
        return self.denoiser(noisy, self.objective.schedule.times(levels), condition, context).float()

    @property
    def _adds(self) -> bool:
        """Whether the denoiser's output is added to what the estimate says of x_0."""
        return self.estimate is not None and self.estimate.added

    def _estimate(self, condition: Condition) -> Tensor | None:
        return None if self.estimate is None else self.estimate(condition)

    def on_grid(self, condition: Condition, shape: tuple[int, int]) -> Condition:
        """Return a condition as `predict` takes it.

        It has the estimate too, and its maps are on the grid of a target of h by w positions, padded as the denoiser
        needs.
        """
        maps: dict[str, Tensor | None] = dict.fromkeys(condition.maps)
        for name in maps.keys() & self.denoiser.condition_channels.keys():
            maps[name] = pad_to_multiple(_repeated(condition.maps[name], shape), self.denoiser.multiple)
        estimate = self._estimate(condition)
        if estimate is not None:
            assert estimate.shape[-2:] == shape
            estimate = pad_to_multiple(estimate, self.denoiser.multiple)
        return condition.with_(**maps | {"estimate": estimate})


def _repeated(map_: Tensor, shape: tuple[int, int]) -> Tensor:
    """Repeat the values of a coarser map up to a grid of h by w positions."""
    return map_ if map_.shape[-2:] == shape else F.interpolate(map_, size=shape, mode="nearest")


def _check_estimate(denoiser: Denoiser, estimate: Estimate | None) -> None:
    if estimate is None:
        if "estimate" in denoiser.requires:
            raise ValueError(
                f"{type(denoiser).__name__} takes an estimate of its target, but the decoder has none; set its "
                "`estimate` to a BaseEstimate or LinearEstimate, or give the denoiser other `maps`"
            )
        return
    taken = denoiser.condition_channels.get("estimate", estimate.channels)
    if (denoiser.channels, taken) != (estimate.channels, estimate.channels):
        raise ValueError(
            f"{type(estimate).__name__} has {estimate.channels} channels, but {type(denoiser).__name__} predicts "
            f"{denoiser.channels} and takes an estimate of {taken}; set all three to the same number"
        )
    for name in denoiser.condition_channels.keys() & estimate.condition_channels.keys():
        if denoiser.condition_channels[name] != estimate.condition_channels[name]:
            raise ValueError(
                f"{type(estimate).__name__} takes {estimate.condition_channels[name]} {name} channels, but "
                f"{type(denoiser).__name__} takes {denoiser.condition_channels[name]}; set both to the same number"
            )
