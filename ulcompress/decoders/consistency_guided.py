"""CGDM's decoder: diffusion in pixel space, guided by a base reconstruction and a neural syntax."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ulcompress.decoders.base import Decoder
from ulcompress.decoders.consistency import ConsistencyEncoder
from ulcompress.decoders.guided_unet import GuidedUNet
from ulcompress.diffusion import DDIM, BoundaryControl, NoiseSchedule, Sampler
from ulcompress.diffusion.rehearsal import check_shares, rehearsed
from ulcompress.padding import pad_to_multiple
from ulcompress.part import loadable
from ulcompress.records import Condition, Denoised


@loadable()
class ConsistencyGuidedDecoder(Decoder):
    """Improves a base reconstruction by a few deterministic steps that start from the same noise everywhere.

        base ─► patches ─► consistency encoder ─► features, once a sample
                                                     ▼
        seed ─► boundary ─► x_t ─► patches ─► denoiser ─► merge ─► (+ base) ─► sampler step ─► x_t ... x_0
                                                 ▲
                                 patch of the base, syntax, text, text_null

    Works in pixel space: targets and samples are images in [-1, 1]. The reconstruction of the base codec, from the same
    bytes, is the sample of no steps. Source: CGDM (Kuang et al., ACM MM 2024); late start from the base: as in DIRAC
    (Goose et al., arXiv 2301.05489).
    """

    requires = frozenset({"base"})

    def __init__(
        self,
        *,
        denoiser: GuidedUNet,
        consistency: ConsistencyEncoder | None = None,
        schedule: NoiseSchedule | None = None,
        sampler: Sampler | None = None,
        steps: int = 4,
        start: float = 1.0,
        guidance: float = 1.0,
        snr_clip: float | None = 5.0,
        terminal_share: float = 0.0,
        own_estimates: float = 0.0,
        residual: bool = True,
        boundary: BoundaryControl | None = None,
    ):
        """Take the parts.

        Args:
            denoiser: The network.
            consistency: The branch that sees the base alone; None for a denoiser without `consistency`.
            schedule: The diffusion process; by default the image itself is predicted, on a cosine schedule with zero
                terminal signal.
            sampler: From noise to a sample; deterministic DDIM by default.
            steps: Default number of sampling steps; 0 returns the base.
            start: Share of the process at which sampling starts, from the base under that much noise; 1 is pure noise.
                Training draws no later times.
            guidance: Default scale of the guidance on text; 1 is none and costs half the time.
            snr_clip: Weigh each training sample by its signal-to-noise ratio clipped at this value; None weighs all
                times alike.
            terminal_share: Share of training samples at the very time at which sampling starts.
            own_estimates: Share of training samples in which x_t is what sampling will see: the base at its start, then
                what one step made of the image; without, each further step adds to the faults of the one before.
            residual: The network's output is added to the base, so that an untrained decoder returns the base.
            boundary: Initial noise and overlapped patches, in pixels; by default a canvas of noise and patches of 256
                that overlap by 64.

        Raises:
            ValueError: The consistency encoder or the patch does not fit the denoiser, two options contradict, or a
                number is out of its range.
        """
        super().__init__()
        self.denoiser = denoiser
        self.consistency = consistency
        self.schedule = schedule if schedule is not None else _cosine()
        self.sampler = sampler if sampler is not None else DDIM()
        self.boundary = boundary if boundary is not None else BoundaryControl(patch=256, overlap=64)
        _check_networks(denoiser, consistency, self.boundary)
        check_shares(terminal_share=terminal_share, own_estimates=own_estimates)
        if start != 1 and not self.sampler.starts_late:
            raise ValueError(f"{type(self.sampler).__name__} starts at pure noise, got start={start}; use DDIM, or 1")
        if not 0 <= steps <= self.schedule.time_at(start) + 1:
            raise ValueError(f"steps must be 0 to {self.schedule.time_at(start) + 1}, got {steps}")
        if residual and self.schedule.prediction != "sample":
            raise ValueError(
                f"residual adds the base to a predicted image, but the schedule predicts {self.schedule.prediction!r}; "
                "set the schedule's prediction to sample, or residual to false"
            )
        if snr_clip is not None and terminal_share > 0 and start == 1:
            raise ValueError(
                "snr_clip weighs samples at pure noise by zero; set terminal_share to 0, snr_clip to null, or start to "
                "less than 1"
            )
        self.channels = denoiser.channels
        self.condition_channels = denoiser.condition_channels
        self.accepts = _accepted(denoiser)
        self.steps = steps
        self.start = start
        self.first = self.schedule.time_at(start)
        self.guidance = guidance
        self.snr_clip = snr_clip
        self.terminal_share = terminal_share
        self.own_estimates = own_estimates
        self.residual = residual

    def loss(self, target: Tensor, condition: Condition) -> Denoised:
        """Return the mean squared error of the prediction for images in [-1, 1], (B, 3, H, W), at random times."""
        height, width = target.shape[-2:]
        clean, base = (pad_to_multiple(image, self.denoiser.multiple) for image in (target, _centred(condition)))
        times = self._draw(len(target), target.device)
        noise = torch.randn_like(clean)
        features = self._features(base)
        if self.own_estimates > 0:
            noise = rehearsed(
                self.schedule,
                clean,
                noise,
                times,
                begin=base,
                first=self.first,
                share=self.own_estimates,
                estimate=lambda rows: self._one_step(noise[rows], base[rows], _of(features, rows), condition.of(rows)),
            )
        noisy = self.schedule.noisy(clean, noise, times)
        prediction = self._predict(noisy, times, base, features, condition)
        error = (prediction - self.schedule.target(clean, noise, times)).square()
        error = error[..., :height, :width].mean((1, 2, 3))
        if self.snr_clip is not None:
            error = error * self.schedule.min_snr_weight(times, self.snr_clip)
        estimate = self.schedule.estimate(prediction, noisy, times)
        return Denoised({"diffusion": error.mean()}, estimate[..., :height, :width])

    def sample(
        self,
        condition: Condition,
        shape: tuple[int, int],
        *,
        seed: int,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> Tensor:
        """Sample an image of h by w pixels, (1, 3, h, w), about [-1, 1]; 0 steps return the base.

        The features of all patches are kept over the steps: about twelve values a pixel at the default sizes.
        """
        steps = self.steps if steps is None else steps
        scale = self.guidance if guidance is None else guidance
        base = _centred(condition)
        assert base.shape[-2:] == shape
        if steps == 0:
            return base
        base = pad_to_multiple(base, self.denoiser.multiple)
        height, width = base.shape[-2:]
        noise = self.boundary.noise_of((1, self.channels, height, width), seed).to(base)
        first = self.schedule.noisy(base, noise, torch.full((1,), self.first, device=base.device))
        kept: dict[tuple[int, int], list[Tensor] | None] = {}

        def predict(noisy: Tensor, times: Tensor) -> Tensor:
            def in_one(rows: slice, columns: slice) -> Tensor:
                position, part = (rows.start, columns.start), base[..., rows, columns]
                if position not in kept:
                    kept[position] = self._features(part)
                return self._guided(noisy[..., rows, columns], times, part, kept[position], condition, scale)

            return self.boundary.merge(in_one, height, width)

        sample = self.sampler.sample(self.schedule, predict, first, steps, start=self.start)
        return sample[..., : shape[0], : shape[1]]

    def _one_step(self, noise: Tensor, base: Tensor, features: Sequence[Tensor] | None, condition: Condition) -> Tensor:
        """Return the first estimate of a sampling."""
        times = torch.full((len(noise),), self.first, device=noise.device)
        noisy = self.schedule.noisy(base, noise, times)
        return self.schedule.estimate(self._predict(noisy, times, base, features, condition), noisy, times)

    def _draw(self, count: int, device: torch.device) -> Tensor:
        """Draw random training times up to the start, (count,)."""
        length = self.schedule.length
        # The schedule's times, brought into a shorter process: ceil(time * share), counted from 1.
        times = -(-(self.schedule.draw(count, device) + 1) * (self.first + 1) // length) - 1
        terminal = torch.rand(count, device=device) < self.terminal_share
        return torch.where(terminal, self.first, times)

    def _features(self, base: Tensor) -> list[Tensor] | None:
        return self.consistency(base) if self.consistency is not None else None

    def _predict(
        self, noisy: Tensor, times: Tensor, base: Tensor, features: Sequence[Tensor] | None, condition: Condition
    ) -> Tensor:
        given = condition.syntax, condition.text, condition.text_mask
        prediction = self.denoiser(noisy, times, base, features, *given).float()
        return base + prediction if self.residual else prediction

    def _guided(
        self,
        noisy: Tensor,
        times: Tensor,
        base: Tensor,
        features: Sequence[Tensor] | None,
        condition: Condition,
        scale: float,
    ) -> Tensor:
        prediction = self._predict(noisy, times, base, features, condition)
        if scale == 1 or condition.text_null is None or "text" not in self.accepts:
            return prediction
        without = condition.with_(text=condition.text_null, text_mask=None)
        plain = self._predict(noisy, times, base, features, without)
        return plain + scale * (prediction - plain)


def _cosine() -> NoiseSchedule:
    return NoiseSchedule(prediction="sample", beta_schedule="squaredcos_cap_v2")


def _centred(condition: Condition) -> Tensor:
    """Return the base in [-1, 1]."""
    assert condition.base is not None
    return 2 * condition.base - 1


def _of(features: Sequence[Tensor] | None, rows: Tensor) -> list[Tensor] | None:
    return None if features is None else [level[rows] for level in features]


def _accepted(denoiser: GuidedUNet) -> frozenset[str]:
    """Return the fields of a condition that the denoiser takes, so that a codec refuses bits that change nothing."""
    text = {"text", "text_mask", "text_null"} if "text" in denoiser.condition_channels else set()
    return frozenset(denoiser.condition_channels) | text


def _check_networks(denoiser: GuidedUNet, consistency: ConsistencyEncoder | None, boundary: BoundaryControl) -> None:
    if denoiser.consistency != (consistency is not None):
        raise ValueError(
            "the GuidedUNet fuses consistency features but there is no ConsistencyEncoder; give one, or set the "
            "denoiser's consistency to false"
            if denoiser.consistency
            else "there is a ConsistencyEncoder, but the GuidedUNet fuses no consistency features; set the denoiser's "
            "consistency to true, or leave the encoder out"
        )
    for name in ("widths", "patch_size"):
        if consistency is not None and getattr(consistency, name) != getattr(denoiser, name):
            raise ValueError(
                f"ConsistencyEncoder has {name}={getattr(consistency, name)} but GuidedUNet has "
                f"{name}={getattr(denoiser, name)}; set both to the same"
            )
    if boundary.patch % denoiser.multiple:
        raise ValueError(
            f"the patch must be a multiple of {denoiser.multiple} pixels, which the GuidedUNet halves down to one "
            f"position, got {boundary.patch}"
        )
