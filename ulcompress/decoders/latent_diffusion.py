"""PerCo's decoder: diffusion in the latent space under spatial and text conditions."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ulcompress.decoders.base import Decoder
from ulcompress.decoders.linear_estimate import LinearEstimate
from ulcompress.decoders.unet import UNet
from ulcompress.diffusion import DDIM, BoundaryControl, NoiseSchedule, Sampler
from ulcompress.diffusion.rehearsal import check_shares, rehearsed
from ulcompress.part import loadable
from ulcompress.records import Condition, Denoised


@loadable()
class LatentDiffusionDecoder(Decoder):
    """Samples a latent with a few deterministic steps and classifier-free guidance on the text.

        seed ─► boundary noise ─► x_t ─► denoiser in overlapped patches ─► guidance ─► sampler step ─► x_t ... x_0
                                                ▲
                                  spatial, syntax, text, text_null

    With a linear estimate the denoiser sees that in place of the spatial condition, and predicts what is missing:

        spatial ─► linear estimate ─┬─► denoiser ─► (+) ─► prediction
                                    └───────────────┘

    Sources: PerCo, arXiv 2310.10325, section 3; Ho and Salimans, Classifier-Free Diffusion Guidance, 2022, equation 6.
    """

    requires = frozenset({"spatial"})

    def __init__(
        self,
        *,
        denoiser: UNet,
        schedule: NoiseSchedule | None = None,
        sampler: Sampler | None = None,
        steps: int = 20,
        guidance: float = 1.0,
        terminal_share: float = 0.0,
        own_estimates: float = 0.0,
        min_snr: float | None = None,
        boundary: BoundaryControl | None = None,
        estimate: LinearEstimate | None = None,
    ):
        """Take the parts.

        Args:
            denoiser: The network.
            schedule: The diffusion process; v-prediction with zero terminal signal by default.
            sampler: From noise to a sample; deterministic DDIM by default.
            steps: Default number of sampling steps; fewer are closer to the mean (better PSNR, less texture).
            guidance: Default scale of the guidance on text; 1 is none and costs half the time.
            terminal_share: Share of training samples at the last time step, where the network sees pure noise and
                learns the mean of the latent given its condition; this trains the encoder quickly.
            own_estimates: Share of training samples in which x_t shows what the decoder made of the latent in one step,
                as it will in sampling; without, each further step adds to the faults of the one before.
            min_snr: Weigh each sample by its signal-to-noise ratio clipped at this value, 5 for instance; None weighs
                all times alike.
            boundary: Initial noise and overlapped patches, in latent positions; by default a canvas of noise and
                patches of 96 that overlap by 16. A denoiser that was trained on crops with zeros beyond their border
                (`padding` of `UNet`) restores best in patches about as large.
            estimate: What the features tell linearly of the latent; its channels are the denoiser's `spatial_channels`.

        Raises:
            ValueError: `terminal_share` and `min_snr` are both given, a number is out of its range, or the estimate
                does not fit the denoiser or the schedule.
        """
        super().__init__()
        if min_snr is not None and terminal_share > 0:
            raise ValueError(
                "min_snr weighs samples at pure noise by zero; set terminal_share to 0, or leave min_snr out"
            )
        check_shares(terminal_share=terminal_share, own_estimates=own_estimates)
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        self.denoiser = denoiser
        self.channels = denoiser.channels
        self.condition_channels = denoiser.condition_channels
        self.estimate = estimate
        self.accepts = frozenset(denoiser.condition_channels) | {"text_mask", "text_null"}
        self.schedule = schedule if schedule is not None else NoiseSchedule()
        self.sampler = sampler if sampler is not None else DDIM()
        if estimate is not None:
            self._check_estimate(estimate)
            self.condition_channels = denoiser.condition_channels | {"spatial": estimate.spatial_channels}
        self.min_snr = min_snr
        self.steps = steps
        self.guidance = guidance
        self.terminal_share = terminal_share
        self.own_estimates = own_estimates
        self.boundary = boundary if boundary is not None else BoundaryControl(patch=96, overlap=16)

    def _check_estimate(self, estimate: LinearEstimate) -> None:
        taken = self.channels, self.denoiser.condition_channels["spatial"]
        if taken != (estimate.channels, estimate.channels):
            raise ValueError(
                f"an estimate of {estimate.channels} channels needs a denoiser of as many channels and "
                f"spatial_channels; got {taken[0]} and {taken[1]}"
            )
        if self.schedule.prediction == "epsilon":
            raise ValueError("an estimate of the latent says nothing of epsilon; predict v_prediction or sample")

    def loss(self, target: Tensor, condition: Condition) -> Denoised:
        """Return the mean squared error of the prediction for latents, (B, C, h, w), at random times."""
        condition = self._on_grid(condition, target.shape[-2:])
        last = self.schedule.length - 1
        times = self.schedule.draw(len(target), target.device)
        terminal = torch.rand(len(target), device=target.device) < self.terminal_share
        times = torch.where(terminal, last, times)
        noise = torch.randn_like(target)
        if self.own_estimates > 0:
            noise = rehearsed(
                self.schedule,
                target,
                noise,
                times,
                begin=torch.zeros_like(target),
                first=last,
                share=self.own_estimates,
                estimate=lambda rows: self._one_step(noise[rows], condition.of(rows)),
            )
        noisy = self.schedule.noisy(target, noise, times)
        prediction = self._predict(noisy, times, condition)
        error = (prediction - self.schedule.target(target, noise, times)).square().mean((1, 2, 3))
        if self.min_snr is not None:
            error = error * self.schedule.min_snr_weight(times, self.min_snr)
        return Denoised({"diffusion": error.mean()}, self.schedule.estimate(prediction, noisy, times))

    def sample(
        self,
        condition: Condition,
        shape: tuple[int, int],
        *,
        seed: int,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> Tensor:
        """Sample a latent of h by w positions, (1, C, h, w)."""
        steps = self.steps if steps is None else steps
        scale = self.guidance if guidance is None else guidance
        condition = self._on_grid(condition, shape)
        spatial = condition.spatial
        assert spatial is not None
        noise = self.boundary.noise_of((1, self.channels, *shape), seed).to(spatial)

        def predict(noisy: Tensor, times: Tensor) -> Tensor:
            def in_one(rows: slice, columns: slice) -> Tensor:
                part = condition.with_(spatial=spatial[..., rows, columns])
                return self._guided(noisy[..., rows, columns], times, part, scale)

            return self.boundary.merge(in_one, *shape)

        return self.sampler.sample(self.schedule, predict, noise, steps)

    def _one_step(self, noise: Tensor, condition: Condition) -> Tensor:
        """Return the first estimate of a sampling."""
        times = torch.full((len(noise),), self.schedule.length - 1, device=noise.device)
        return self.schedule.estimate(self._predict(noise, times, condition), noise, times)

    def _guided(self, noisy: Tensor, times: Tensor, condition: Condition, scale: float) -> Tensor:
        prediction = self._predict(noisy, times, condition)
        if scale == 1 or condition.text_null is None:
            return prediction
        without = condition.with_(text=condition.text_null, text_mask=None)
        plain = self._predict(noisy, times, without)
        return plain + scale * (prediction - plain)

    def _predict(self, noisy: Tensor, times: Tensor, condition: Condition) -> Tensor:
        prediction = self.denoiser(noisy, times, condition).float()
        if self.estimate is None:
            return prediction
        assert condition.spatial is not None
        return prediction + self.schedule.target(condition.spatial, torch.zeros_like(noisy), times)

    def _on_grid(self, condition: Condition, shape: tuple[int, ...]) -> Condition:
        """Bring the spatial condition to the latent's grid: by the estimate, or by repetition."""
        assert condition.spatial is not None
        if self.estimate is not None:
            return condition.with_(spatial=self.estimate(condition.spatial))
        return condition.with_(spatial=F.interpolate(condition.spatial, size=tuple(shape), mode="nearest"))
